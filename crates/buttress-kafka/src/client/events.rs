//! [`Event`]: what the client reports while it is polled, e.g. rebalances.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use super::error::Error;
use super::log;

/// An event of a consumer. The group waits until the member has answered a rebalance.
#[derive(Debug)]
pub(crate) enum Event {
    /// The member owns these partitions. The answer is an assignment.
    Assigned(Vec<i32>),
    /// The member releases these partitions. The answer ends their assignment.
    Revoked(Vec<i32>),
    /// The brokers have answered a commit.
    Committed(Positions, Result<(), Error>),
}

/// Partitions and their positions.
pub(crate) type Positions = Vec<(i32, i64)>;

/// The topic of a consumer, and the queue of its events.
pub(super) struct Events {
    pub topic: String,
    /// Called when there are messages or events.
    pub wake: Arc<dyn Fn() + Send + Sync>,
    queue: Mutex<VecDeque<Event>>,
    /// Whether a rebalance waits for the answer of the member, and is not answered immediately.
    pub waits: AtomicBool,
}

impl Events {
    pub(super) fn new(topic: &str, wake: impl Fn() + Send + Sync + 'static) -> Self {
        let (topic, waits) = (topic.to_owned(), AtomicBool::new(false));
        Self { topic, wake: Arc::new(wake), queue: Mutex::default(), waits }
    }

    pub(super) fn push(&self, event: Event) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
    }

    pub(super) fn next(&self) -> Option<Event> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl ClientContext for Events {}

impl ConsumerContext for Events {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if !self.waits.load(Ordering::Relaxed) {
            let answered = match assigned {
                true => consumer.incremental_assign(list),
                false => consumer.incremental_unassign(list),
            };
            log(answered.map_err(Error::from));
            return;
        }
        let partitions = list.elements().iter().map(|element| element.partition()).collect();
        self.push(match assigned {
            true => Event::Assigned(partitions),
            false => Event::Revoked(partitions),
        });
    }
}
