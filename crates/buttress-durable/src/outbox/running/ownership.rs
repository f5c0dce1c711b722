//! [`Ownership`]: the leases of a relay, as its deliveries in flight see them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::outbox::store::Lease;

/// Whether a delivery may continue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum May {
    /// The relay owns the partition under the same epoch.
    Go,
    /// The lease has run out here. The answer to the next renewal shows whether another relay has
    /// owned the partition since. A delivery has waited for this answer since the instant.
    Wait(Instant),
    /// The relay does not own the partition any more, or owns it under a newer epoch. Another relay
    /// may have delivered the message.
    Never,
}

/// The leases of a relay, shared with its deliveries.
#[derive(Debug)]
pub(super) struct Ownership(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// Counted from before the request, so it is not later than in the store.
    until: Instant,
    epochs: BTreeMap<u16, u64>,
    /// When a delivery first had to wait for the next renewal.
    waits_since: Option<Instant>,
}

impl Ownership {
    /// Creates the state of a relay that owns nothing.
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Known { until: now, epochs: BTreeMap::new(), waits_since: None }))
    }

    /// Takes in the store's answer to a renewal.
    pub(super) fn renewed(&self, until: Instant, leases: &[Lease]) {
        let epochs = leases.iter().map(|lease| (lease.partition, lease.epoch)).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Known { until, epochs, waits_since: None };
    }

    /// Whether a delivery that began under `lease` may continue at `now`.
    pub(super) fn may(&self, lease: Lease, now: Instant) -> May {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.epochs.get(&lease.partition) {
            Some(epoch) if *epoch == lease.epoch && now < known.until => May::Go,
            Some(epoch) if *epoch == lease.epoch => {
                May::Wait(*known.waits_since.get_or_insert(now))
            }
            _ => May::Never,
        }
    }

    /// Whether a delivery may start.
    pub(super) fn is_live(&self, now: Instant) -> bool {
        now < self.until()
    }

    /// Returns when the lease ends.
    pub(super) fn until(&self) -> Instant {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).until
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lapse_stops_and_a_newer_epoch_ends() {
        let now = buttress::Clock::default().now();
        let second = Duration::from_secs(1);
        let lease = |epoch| Lease::new(3, epoch);
        let ownership = Ownership::new(now);
        assert_eq!(ownership.may(lease(1), now), May::Never);
        ownership.renewed(now + second, &[lease(1)]);
        assert_eq!(ownership.may(lease(1), now), May::Go);
        let end = now + second;
        assert_eq!(ownership.may(lease(1), end), May::Wait(end), "the lease ends at this instant");
        assert_eq!(ownership.may(lease(1), end + second), May::Wait(end), "all wait from then on");
        // Renewed under the same epoch: no other relay owned the partition.
        ownership.renewed(now + 3 * second, &[lease(1)]);
        assert_eq!(ownership.may(lease(1), now + second), May::Go);
        let end = now + 3 * second;
        assert_eq!(ownership.may(lease(1), end), May::Wait(end), "the wait after another lapse");
        ownership.renewed(now + 4 * second, &[lease(2)]);
        assert_eq!(ownership.may(lease(1), now + second), May::Never);
        assert_eq!(ownership.may(lease(1), now + 9 * second), May::Never);
        assert_eq!(ownership.may(lease(2), now + second), May::Go);
    }
}
