//! [`Consumer`]: the requests of one member of a group, about one topic.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::admin::{Found, find};
use super::error::Error;
use super::events::{Event, Events};
use super::message::{Message, polled};
use super::{Properties, config};

/// A client of one member and one topic. Clones share the client. The last one that is dropped leaves the group, and waits
/// for that.
#[derive(Clone)]
pub(crate) struct Consumer(Arc<BaseConsumer<Events>>);

/// The messages of one partition. Must be dropped before its [`Consumer`].
pub(crate) struct Queue(PartitionQueue<Events>);

/// Partitions, and the offset of each. `None` if the brokers know none.
type Offsets = Vec<(i32, Option<i64>)>;

impl Consumer {
    /// Creates a client that calls `wake` on any thread when there are messages or events.
    pub(crate) fn new(
        properties: &Properties,
        topic: &str,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let events = Events::new(topic, wake);
        let wake = events.wake.clone();
        let mut client: BaseConsumer<Events> = config(properties).create_with_context(events)?;
        client.set_nonempty_callback(move || wake());
        Ok(Self(Arc::new(client)))
    }

    fn topic(&self) -> &str {
        &self.0.context().topic
    }

    /// Joins the group. From now on each rebalance waits for the answer of the member.
    pub(crate) fn subscribe(&self) -> Result<(), Error> {
        self.0.context().waits.store(true, Ordering::Relaxed);
        Ok(self.0.subscribe(&[self.topic()])?)
    }

    /// Leaves the group.
    pub(crate) fn unsubscribe(&self) {
        self.0.unsubscribe();
    }

    /// Lets the client answer all further rebalances immediately, because the member ends.
    pub(crate) fn end(&self) {
        self.0.context().waits.store(false, Ordering::Relaxed);
    }

    /// Returns an error, or a message of a partition without a [`Queue`], without waiting. Collects the events of the client
    /// for [`next_event`](Self::next_event).
    pub(crate) fn poll(&self) -> Option<Result<Message<'_>, Error>> {
        self.0.poll(Duration::ZERO).map(polled)
    }

    /// Returns the next event.
    pub(crate) fn next_event(&self) -> Option<Event> {
        self.0.context().next()
    }

    /// Adds an event behind those of the client.
    pub(crate) fn push_event(&self, event: Event) {
        self.0.context().push(event);
    }

    /// Returns the queue of a partition. `None` if the client does not know the partition.
    pub(crate) fn split(&self, partition: i32) -> Option<Queue> {
        let mut queue = self.0.split_partition_queue(self.topic(), partition)?;
        let wake = self.0.context().wake.clone();
        queue.set_nonempty_callback(move || wake());
        Some(Queue(queue))
    }

    /// Begins to fetch from partitions, at the positions of the group.
    pub(crate) fn assign(&self, partitions: &[i32]) -> Result<(), Error> {
        Ok(self.0.incremental_assign(&self.list(partitions))?)
    }

    /// Begins to fetch from a partition at `offset`.
    pub(crate) fn assign_at(&self, partition: i32, offset: i64) -> Result<(), Error> {
        Ok(self.0.incremental_assign(&self.list_at(&[(partition, offset)])?)?)
    }

    /// Ends to fetch from partitions.
    pub(crate) fn unassign(&self, partitions: &[i32]) -> Result<(), Error> {
        Ok(self.0.incremental_unassign(&self.list(partitions))?)
    }

    /// Returns `true` if the group has given the partitions of a revocation to other members already.
    pub(crate) fn is_assignment_lost(&self) -> bool {
        self.0.assignment_lost()
    }

    /// Commits positions, and waits for the answer of the brokers. The client calls nothing for a commit that does not
    /// wait.
    pub(crate) fn commit(&self, positions: &[(i32, i64)]) -> Result<(), Error> {
        Ok(self.0.commit(&self.list_at(positions)?, CommitMode::Sync)?)
    }

    /// Asks the brokers for the topic.
    pub(crate) fn find(&self, limit: Duration) -> Result<Found, Error> {
        find(self.0.client(), self.topic(), limit)
    }

    /// Returns the positions of the group. Fails if the position of any of the partitions is unknown.
    pub(crate) fn committed(&self, partitions: &[i32], limit: Duration) -> Result<Offsets, Error> {
        offsets(&self.0.committed_offsets(self.list(partitions), limit)?)
    }

    /// Returns the first offset at or after a time in milliseconds since 1970. `None` for a partition without such a message.
    pub(crate) fn offsets_at(
        &self,
        partitions: &[i32],
        millis: i64,
        limit: Duration,
    ) -> Result<Offsets, Error> {
        let mut list = self.list(partitions);
        list.set_all_offsets(Offset::Offset(millis))?;
        offsets(&self.0.offsets_for_times(list, limit)?)
    }

    /// Returns the first offset of a partition, and the offset behind its last message.
    pub(crate) fn watermarks(&self, partition: i32, limit: Duration) -> Result<(i64, i64), Error> {
        Ok(self.0.fetch_watermarks(self.topic(), partition, limit)?)
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(self.topic(), *partition);
        }
        list
    }

    fn list_at(&self, positions: &[(i32, i64)]) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (partition, offset) in positions {
            list.add_partition_offset(self.topic(), *partition, Offset::Offset(*offset))?;
        }
        Ok(list)
    }
}

/// Returns the offsets of an answer, or the first error in it.
fn offsets(list: &TopicPartitionList) -> Result<Offsets, Error> {
    let elements = list.elements();
    let known = elements.iter().map(|element| {
        element.error()?;
        let offset = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        Ok((element.partition(), offset))
    });
    known.collect()
}

impl Queue {
    /// Returns the next message or error, without waiting.
    pub(crate) fn poll(&self) -> Option<Result<Message<'_>, Error>> {
        self.0.poll(Duration::ZERO).map(polled)
    }
}
