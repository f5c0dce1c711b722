//! Recording how deliveries ended.

use std::time::Duration;

use super::{Operation, Running};
use crate::causes::WithCauses;
use crate::instant;
use crate::outage::MENDED_BY_HAND;
use crate::outbox::store::{Settled, Store, Verdict};
use buttress::{StoreError, StoreErrorKind};

/// Whether the store refuses the data permanently.
pub(super) fn is_refusal(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::Invalid | StoreErrorKind::Conflict)
}

impl<St: Store, P, C> Running<St, P, C> {
    /// Records the ends of deliveries. Finds those that the store refuses by halving the batch, and
    /// sets each of them aside, so that the others are recorded.
    pub(super) async fn write_down(&mut self) {
        if self.pending.settled().is_empty() || self.now() < self.next_write {
            return;
        }
        let mut left = self.pending.settled().len();
        let mut size = left;
        while left > 0 {
            let part: Vec<Settled> =
                self.pending.settled().iter().take(size.min(left)).cloned().collect();
            let count = part.len();
            let store = self.relay.store.clone();
            match self.beside(async move { store.settle(part).await }).await {
                Ok(refused) => {
                    self.worked(Operation::Settle);
                    let written = self.pending.written(count, &refused);
                    if !refused.is_empty() {
                        self.ownership.renewed(self.ownership.until(), self.pending.leases());
                        self.in_flight.wake_all();
                        self.next_lease = self.now();
                    }
                    self.count(&written);
                    left -= count;
                }
                Err(error) if is_refusal(&error) && count > 1 => size = count / 2,
                Err(error) if is_refusal(&error) => {
                    self.set_aside(&error);
                    (left, size) = (left - 1, left.max(1));
                }
                Err(error) => {
                    self.next_write = self.failed(Operation::Settle, &error);
                    return;
                }
            }
        }
    }

    /// Sets aside the first result that waits to be recorded.
    fn set_aside(&mut self, error: &StoreError) {
        let policy = self.relay.config.head_of_key;
        let Some(settled) = self.pending.set_aside(policy) else { return };
        let outcome = match &settled.verdict {
            Verdict::Delivered => "delivered",
            Verdict::Retry { .. } => "failed",
            Verdict::Dead { .. } => "dead letter",
        };
        tracing::error!(
            target: "buttress", layer = self.relay.config.layer().as_str(), message_id = %settled.id,
            key = settled.key, outcome, error = %WithCauses(error),
            "the store refuses to record how this delivery ended: the relay sets the message aside, \
             and another owner of its partition publishes it again"
        );
        self.next_aside = instant::after(self.now(), MENDED_BY_HAND);
    }

    /// Records again, one at a time, the results that the store refused before.
    pub(super) async fn write_aside(&mut self) {
        if !self.pending.has_aside() || self.now() < self.next_aside {
            return;
        }
        self.next_aside = instant::after(self.now(), MENDED_BY_HAND);
        for settled in self.pending.aside() {
            let (store, again) = (self.relay.store.clone(), settled.clone());
            match self.beside(async move { store.settle(vec![again]).await }).await {
                Ok(refused) => {
                    self.pending.recorded_aside(settled.id);
                    if refused.is_empty() {
                        self.count(&[settled]);
                    }
                }
                Err(error) if is_refusal(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn count(&mut self, written: &[Settled]) {
        let now = self.now();
        let mut lags = Vec::new();
        let (mut failed, mut dead) = (0, 0);
        for settled in written {
            match &settled.verdict {
                Verdict::Delivered => {
                    let recovered = self.refusals.delivered(now);
                    self.recovered(recovered);
                    lags.push(self.lag(settled.due_at));
                }
                Verdict::Retry { counts, after, error } => {
                    failed += 1;
                    if !counts && self.refusals.refused(now, instant::after(now, *after)) {
                        tracing::warn!(
                            target: "buttress", layer = self.relay.config.layer().as_str(), error,
                            "the publisher takes no message; the relay publishes again after growing waits"
                        );
                    }
                }
                Verdict::Dead { error, .. } => {
                    (failed, dead) = (failed + 1, dead + 1);
                    tracing::error!(
                        target: "buttress", layer = self.relay.config.layer().as_str(),
                        message_id = %settled.id, key = settled.key, error,
                        "the relay has made a dead letter of a message"
                    );
                }
            }
        }
        let counts = &self.relay.shared.notifier.counts;
        counts.relayed(&lags);
        #[cfg(feature = "metrics")]
        crate::outbox::reading::record_lags(self.relay.config.layer(), &lags);
        counts.update(|stats| {
            stats.failed += failed;
            stats.dead += dead;
        });
    }

    /// Logs the end of an outage of the publisher.
    fn recovered(&self, lasted: Option<Duration>) {
        if let Some(lasted) = lasted {
            tracing::info!(
                target: "buttress", layer = self.relay.config.layer().as_str(), ?lasted,
                "the publisher takes messages again"
            );
        }
    }

    /// Returns how long a message has been due, by the store's clock.
    fn lag(&self, due_at: Duration) -> Duration {
        let (at, unix) = self.store_time;
        (unix + self.now().saturating_duration_since(at)).saturating_sub(due_at)
    }
}
