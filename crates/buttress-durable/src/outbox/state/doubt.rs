//! Partitions that the store may have released, after the answer to a renewal was lost.

use super::Pending;

impl Pending {
    /// Records that a renewal failed, or got no answer. It reported the partitions `busy`.
    ///
    /// The store may have carried out the renewal and released any other partition. Their messages
    /// are forgotten, and none are fetched until the store answers a renewal.
    pub(in crate::outbox) fn doubt(&mut self, busy: &[u16]) {
        let partitions = self.leases.iter().map(|lease| lease.partition);
        let doubtful: Vec<u16> = partitions.filter(|it| !busy.contains(it)).collect();
        for partition in doubtful {
            self.forget_waiting_of(partition);
            if !self.is_doubtful(partition) {
                self.doubtful.push(partition);
            }
        }
    }

    /// Whether the store may have released a partition of this relay.
    pub(in crate::outbox) fn has_doubts(&self) -> bool {
        !self.doubtful.is_empty()
    }

    pub(super) fn is_doubtful(&self, partition: u16) -> bool {
        self.doubtful.contains(&partition)
    }
}
