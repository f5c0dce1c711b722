//! Failures of the store: the first wait after a failure, and log lines. `outage.rs` decides how the waits grow, and
//! which failures are logged.

use std::time::{Duration, Instant};

use super::Running;
use crate::causes::WithCauses;
use crate::instant;
use crate::outage::Say;
use buttress::StoreError;

/// An operation that a relay requests from a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Lease,
    Fetch,
    Start,
    ClearSuspects,
    Settle,
    Purge,
}

impl Operation {
    pub(super) const COUNT: usize = 6;

    const fn doing(self) -> &'static str {
        match self {
            Self::Lease => "renewing the lease",
            Self::Fetch => "fetching messages",
            Self::Start => "recording the start of a suspect message",
            Self::ClearSuspects => "clearing suspects",
            Self::Settle => "recording how deliveries ended",
            Self::Purge => "purging delivered messages",
        }
    }
}

impl<St, P, C> Running<St, P, C> {
    /// Records that the store failed to do `operation`. Returns when to repeat the operation.
    pub(super) fn failed(&mut self, operation: Operation, error: &StoreError) -> Instant {
        self.relay.shared.notifier.counts.update(|stats| stats.store_failed += 1);
        let now = self.now();
        let first = self.relay.config.poll.max(Duration::from_millis(100));
        let (say, wait) = self.outage.failed(operation as usize, error, first, now);
        let (layer, doing) = (self.relay.config.layer().as_str(), operation.doing());
        match say {
            Say::Began => tracing::warn!(
                target: "buttress", layer, doing, error = %WithCauses(error),
                "the relay's store does not answer; the relay repeats the operation after growing waits"
            ),
            Say::Mend => tracing::error!(
                target: "buttress", layer, doing, error = %WithCauses(error),
                "an operator must fix the relay's store; the relay repeats the operation once a minute"
            ),
            Say::Nothing => {
                tracing::debug!(target: "buttress", layer, doing, error = %WithCauses(error), ?wait, "the store failed");
            }
        }
        instant::after(now, wait)
    }

    /// Records that the store did `operation`. After an outage, other failed operations are
    /// repeated now.
    pub(super) fn worked(&mut self, operation: Operation) {
        if !self.outage.is_on() {
            return;
        }
        let now = self.now();
        if let Some(lasted) = self.outage.worked(operation as usize, now) {
            let (layer, doing) = (self.relay.config.layer().as_str(), operation.doing());
            tracing::info!(
                target: "buttress", layer, doing, ?lasted, "the relay's store works again"
            );
            self.next_write = now;
            self.next_poll = now;
            self.next_purge = self.next_purge.min(now);
        }
    }

    /// Forgets the claims of starts: no suspect waits for its start any more.
    pub(super) fn forget_starts(&mut self) {
        self.claims.clear();
        self.worked(Operation::Start);
        self.worked(Operation::ClearSuspects);
    }
}
