//! Renewing the lease concurrently with all other work, so that a slow answer of the store does not
//! delay it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{Operation, POLLS_PER_LEASE, Running};
use crate::bounded::bounded;
use crate::caught::unless;
use crate::instant;
use crate::outbox::store::{Owned, Renewal, Store};
use buttress::StoreError;

/// How long the relay waits for an answer of the store, unless its lease is longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A renewal in progress.
pub(super) struct Renewing {
    /// The time of the request.
    asked: Instant,
    /// The partitions that the store does not release.
    busy: Vec<u16>,
    answer: Pin<Box<dyn Future<Output = Result<Owned, StoreError>> + Send>>,
}

impl<St: Store, P, C> Running<St, P, C> {
    /// Waits for an answer of the store. Deliveries and renewals continue during the wait.
    pub(super) async fn beside<T>(
        &mut self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let patience = self.patience();
        let mut operation = pin!(operation);
        // Boxed, and created when the store is first pending: many stores answer immediately.
        let mut limit = None;
        let answer = unless(operation.as_mut(), |cx| {
            self.tend(cx);
            let clock = &self.relay.config.common.clock;
            limit.get_or_insert_with(|| Box::pin(clock.sleep(patience))).as_mut().poll(cx)
        });
        answer.await.unwrap_or_else(|()| Err(too_slow(patience)))
    }

    /// How long the relay waits for an answer of the store, other than to a renewal.
    pub(super) fn patience(&self) -> Duration {
        self.relay.config.lease.max(PATIENCE)
    }

    /// Lets deliveries, the renewal and the purge progress. Returns whether one of them has ended.
    pub(super) fn tend(&mut self, cx: &mut Context<'_>) -> bool {
        // The renewal comes first: it decides whether paused deliveries may continue.
        let renewed = self.poll_renewal(cx);
        let ended = self.poll_in_flight(cx);
        let purged = self.poll_purge(cx);
        renewed || ended || purged
    }

    /// Begins a renewal when it is due, and takes in its answer. Returns whether there was an
    /// answer.
    fn poll_renewal(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        loop {
            if let Some(mut renewal) = self.renewal.take() {
                let Poll::Ready(answer) = renewal.answer.as_mut().poll(cx) else {
                    self.renewal = Some(renewal);
                    return any;
                };
                self.renewed(renewal.asked, &renewal.busy, answer);
                any = true;
            }
            let now = self.now();
            if self.wants_renewal(now) {
                self.renewal = Some(self.begin_renewal(now));
                continue;
            }
            let Some(at) = self.renewal_at() else { return any };
            if self.renewal_timer.1 != at {
                self.renewal_timer.1 = at;
                self.renewal_timer.0.as_mut().reset(at);
            }
            if self.renewal_timer.0.as_mut().poll(cx).is_pending() {
                return any;
            }
        }
    }

    /// Returns when the next renewal is due. A relay that stops renews only while it has messages
    /// in flight.
    fn renewal_at(&self) -> Option<Instant> {
        if self.stopping && self.pending.busy().is_empty() {
            return None;
        }
        match self.pending.can_release() {
            true => Some(self.next_lease.min(self.next_release)),
            false => Some(self.next_lease),
        }
    }

    fn wants_renewal(&self, now: Instant) -> bool {
        now >= self.next_lease.min(self.next_release)
            && self.renewal_at().is_some_and(|at| now >= at)
    }

    fn begin_renewal(&mut self, now: Instant) -> Renewing {
        self.next_release = instant::after(now, self.relay.config.poll);
        let (length, busy) = (self.relay.config.lease, self.pending.busy());
        let (store, id) = (self.relay.store.clone(), self.relay.id);
        let clock = self.relay.config.common.clock.clone();
        let reported = busy.clone();
        // An answer after a lease's length concerns a lease that has ended.
        let answer = async move {
            let lease = store.lease_partitions(Renewal::new(id, length, &reported));
            bounded(&clock, length, "renewing the lease", lease).await
        };
        Renewing { asked: now, busy, answer: Box::pin(answer) }
    }

    fn renewed(&mut self, asked: Instant, busy: &[u16], answer: Result<Owned, StoreError>) {
        match answer {
            Ok(owned) => {
                self.worked(Operation::Lease);
                self.gauges.partitions(owned.leases.len() as u64);
                let length = self.relay.config.lease;
                self.pending.own(owned);
                self.ownership.renewed(instant::after(asked, length), self.pending.leases());
                // Paused deliveries may continue, and revoked ones must end.
                self.in_flight.wake_all();
                if self.pending.isolating().is_none() {
                    self.forget_starts();
                }
                // Partitions that another relay released or abandoned wait until a relay takes
                // them.
                let soon = self.relay.config.poll.saturating_mul(POLLS_PER_LEASE);
                self.next_lease = instant::after(asked, soon.min(length / 3));
            }
            Err(error) => {
                self.pending.doubt(busy);
                self.next_lease = self.failed(Operation::Lease, &error);
                // A partition to release does not shorten the wait.
                self.next_release = self.next_lease;
            }
        }
    }
}

fn too_slow(limit: Duration) -> StoreError {
    StoreError::transient(format!("no answer within {limit:?}"))
}
