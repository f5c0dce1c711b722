//! Positions: how they are committed, and where a member continues if the topic does not have them.

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::client_events::ClientEvents;
use super::{ANSWER, Member};

/// Commits positions, and waits for the answer. The client calls no callback for a commit that does not wait.
pub(super) fn commit(
    consumer: &BaseConsumer<ClientEvents>,
    topic: &str,
    positions: &[(i32, i64)],
) -> KafkaResult<()> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (partition, position) in positions {
        list.add_partition_offset(topic, *partition, Offset::Offset(*position))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}

/// Returns `true` if the partition has no message at the position of the group.
pub(super) fn is_stray(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(Code::AutoOffsetReset)
}

/// Returns the offset to continue with in a partition that has the offsets from `low` to `high`.
///
/// The topic can have the position after all: a new leader of the partition was behind for a moment.
fn start(position: Option<i64>, low: i64, high: i64) -> i64 {
    position.filter(|position| (low..=high).contains(position)).unwrap_or(low)
}

impl Member {
    /// Continues in a partition that did not have the position of the group, or with its first message. Retention has
    /// removed what was before, or the group has no position there yet.
    pub(super) fn recover(&mut self, partition: i32) -> KafkaResult<()> {
        if !self.queues.contains_key(&partition) {
            return Ok(());
        }
        let list = self.list(&[partition]);
        let (low, high) = self.consumer.fetch_watermarks(&self.topic, partition, ANSWER)?;
        let committed = self.consumer.committed_offsets(list.clone(), ANSWER)?;
        let committed = committed.elements();
        // Without an answer the position is unknown, and the caller repeats this.
        committed.iter().try_for_each(|element| element.error())?;
        let committed = committed.first().map(|element| element.offset());
        let mut pending = self.shared.pending();
        let position = match (pending.table.next(partition), committed) {
            (Some(next), _) | (None, Some(Offset::Offset(next))) => Some(next),
            _ => None,
        };
        let first = start(position, low, high);
        // A position behind the end: the topic has lost its end, or was created again.
        let lost_end = position.is_some_and(|position| position > high);
        position.into_iter().for_each(|position| pending.table.lose(position, first));
        drop(pending);
        if position != Some(first) {
            tracing::warn!(
                target: "buttress", topic = self.topic, partition, first, lost_end,
                "the partition has no message at the position of the group: the group continues with its first message"
            );
        }
        self.consumer.incremental_unassign(&list)?;
        let mut begin = TopicPartitionList::new();
        begin.add_partition_offset(&self.topic, partition, Offset::Offset(first))?;
        self.consumer.incremental_assign(&begin)?;
        self.shared.notify();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::start;

    #[test]
    fn a_partition_continues_with_the_position_if_it_is_there() {
        assert_eq!(start(Some(7), 5, 9), 7);
        assert_eq!(start(Some(9), 5, 9), 9, "the end");
        assert_eq!(start(Some(4), 5, 9), 5, "removed by retention");
        assert_eq!(start(Some(10), 5, 9), 5, "the topic has lost its end");
        assert_eq!(start(None, 5, 9), 5, "a group without a position");
    }
}
