//! Where a member continues if the topic does not have the position of the group. `table.rs` decides which position is
//! committed.

use super::{ANSWER, Member};
use crate::client::{Code, Error};

/// Returns `true` if the partition has no message at the position of the group.
pub(super) fn is_stray(error: &Error) -> bool {
    error.code() == Some(Code::AutoOffsetReset)
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
    pub(super) fn recover(&mut self, partition: i32) -> Result<(), Error> {
        if !self.queues.contains_key(&partition) {
            return Ok(());
        }
        let (low, high) = self.consumer.watermarks(partition, ANSWER)?;
        // Without an answer the position is unknown, and the caller repeats this.
        let committed = self.consumer.committed(&[partition], ANSWER)?;
        let committed = committed.first().and_then(|(_, position)| *position);
        let mut pending = self.shared.pending();
        let position = pending.table.next(partition).or(committed);
        let first = start(position, low, high);
        // A position behind the end: the topic has lost its end, or was created again.
        let lost_end = position.is_some_and(|position| position > high);
        position.into_iter().for_each(|position| pending.table.lose(position, first));
        drop(pending);
        if position != Some(first) {
            tracing::warn!(
                target: "buttress", topic = self.topic, partition, first, lost_end,
                "the group has no position in the partition, or no message is there: it continues at the first message of the partition"
            );
        }
        self.consumer.unassign(&[partition])?;
        self.consumer.assign_at(partition, first)?;
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
