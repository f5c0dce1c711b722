//! A relay at work: lease, write down, look, start, wait, and again.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use buttress::{Classify, StoreError};
use tower::{BoxError, Service};

use super::message::Message;
use super::relay::Relay;
use super::state::Desk;
use super::stats::Gauges;
use super::store::{Settled, Store, Verdict};
use crate::instant;

mod flights;
mod looking;
mod starting;

use flights::{Flights, beside, poll_flights};
use looking::PURGE_EVERY;

/// After how many looks for messages a relay looks for partitions, unless its lease wants it sooner.
const LOOKS_PER_LEASE: u32 = 10;

pub(super) struct Running<St, P, C> {
    gauges: Gauges,
    desk: Desk,
    flights: Flights,
    /// As far as this relay knows: counted from before the store was asked.
    lease_until: Instant,
    next_lease: Instant,
    next_give_up: Instant,
    next_look: Instant,
    next_write: Instant,
    next_purge: Instant,
    /// Looks in a row that found nothing.
    quiet: u32,
    /// The store's wall time at an instant.
    store_time: (Instant, Duration),
    // The last: its end is told when it is dropped, and everything else must be gone then.
    relay: Relay<St, P, C>,
}

impl<St, P, C> Running<St, P, C>
where
    St: Store,
    P: Service<Message> + Clone + Send + 'static,
    P::Error: Into<BoxError>,
    P::Future: Send + 'static,
    P::Response: Send,
    C: Classify<P::Response, P::Error> + Clone + Send + Sync + 'static,
{
    pub(super) fn new(relay: Relay<St, P, C>) -> Self {
        let now = relay.config.clock.now();
        Self {
            gauges: Gauges::new(&relay.shared.bell.counts),
            desk: Desk::default(),
            flights: Flights::new(),
            lease_until: now,
            next_lease: now,
            next_give_up: now,
            next_look: now,
            next_write: now,
            next_purge: instant::after(now, PURGE_EVERY),
            quiet: 0,
            store_time: (now, Duration::ZERO),
            relay,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let stopping = self.relay.shared.shutting_down.load(Ordering::Acquire);
            if stopping {
                self.desk.forget_waiting();
            }
            self.renew(stopping).await;
            self.write_down().await;
            if stopping {
                if self.desk.under_way() == 0 && self.desk.settled().is_empty() {
                    break;
                }
            } else {
                self.look().await;
                self.start().await;
                self.purge().await;
            }
            self.wait(stopping).await;
        }
        if let Err(error) = self.relay.store.release(self.relay.id).await {
            self.warn("partitions not given up: their leases run out", &error);
        }
    }

    async fn renew(&mut self, stopping: bool) {
        let before = self.now();
        let give_up = self.desk.can_give_up() && before >= self.next_give_up;
        if before < self.next_lease && !give_up {
            return;
        }
        self.next_give_up = instant::after(before, self.relay.config.poll);
        let (busy, length) = (self.desk.busy(), self.relay.config.lease);
        let (store, id) = (&self.relay.store, self.relay.id);
        // A relay that stops takes nothing new: it renews what is under way.
        if stopping && busy.is_empty() {
            return;
        }
        match beside(&mut self.flights, &mut self.desk, store.lease(id, length, &busy)).await {
            Ok(owned) => {
                self.gauges.partitions(owned.leases.len() as u64);
                self.desk.own(owned);
                self.lease_until = instant::after(before, length);
                // Partitions that another relay gives up, or leaves, stand still until somebody looks.
                let soon = self.relay.config.poll.saturating_mul(LOOKS_PER_LEASE);
                self.next_lease = instant::after(before, soon.min(length / 3));
            }
            Err(error) => {
                self.warn("lease not renewed", &error);
                self.next_lease = self.pause();
            }
        }
    }

    async fn write_down(&mut self) {
        if self.desk.settled().is_empty() || self.now() < self.next_write {
            return;
        }
        let settled = self.desk.settled().to_vec();
        let count = settled.len();
        let store = &self.relay.store;
        match beside(&mut self.flights, &mut self.desk, store.settle(settled)).await {
            Ok(refused) => {
                let written = self.desk.written(count, &refused);
                if !refused.is_empty() {
                    self.next_lease = self.now();
                }
                self.count(&written);
            }
            Err(error) => {
                self.warn("deliveries not written down", &error);
                self.next_write = self.pause();
            }
        }
    }

    fn count(&self, written: &[Settled]) {
        let mut lags = Vec::new();
        let (mut failed, mut dead) = (0, 0);
        for settled in written {
            match &settled.verdict {
                Verdict::Delivered => lags.push(self.desk_lag(settled.due_at)),
                Verdict::Retry { .. } => failed += 1,
                Verdict::Dead { error, .. } => {
                    (failed, dead) = (failed + 1, dead + 1);
                    tracing::error!(
                        target: "buttress", layer = self.relay.config.name.as_str(),
                        message = %settled.id, key = settled.key, error, "dead letter"
                    );
                }
            }
        }
        let counts = &self.relay.shared.bell.counts;
        counts.relayed(&lags);
        counts.update(|stats| {
            stats.failed += failed;
            stats.dead += dead;
        });
    }

    /// For how long a message has been due, by the store's clock.
    fn desk_lag(&self, due_at: Duration) -> Duration {
        let (at, unix) = self.store_time;
        (unix + self.now().saturating_duration_since(at)).saturating_sub(due_at)
    }

    /// Waits until a delivery ends, a message is written, or it is time for something.
    async fn wait(&mut self, stopping: bool) {
        self.gauges.in_flight(self.desk.under_way() as u64);
        let shared = self.relay.shared.clone();
        let mut at = self.next_lease;
        if !self.desk.settled().is_empty() {
            at = at.min(self.next_write);
        }
        if !stopping {
            at = at.min(self.next_purge);
            if self.wants_more(self.now()) {
                at = at.min(self.next_look);
            }
            if self.desk.can_give_up() {
                at = at.min(self.next_give_up);
            }
        }
        let mut time = pin!(self.relay.config.clock.sleep_until(at));
        let mut rung = pin!(shared.rung.notified());
        let mut shut = pin!(shared.shut.notified());
        let (flights, desk) = (&mut self.flights, &mut self.desk);
        let was_rung = poll_fn(|cx| {
            let ended = poll_flights(flights, desk, cx);
            if !stopping && rung.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            let shut = !stopping && shut.as_mut().poll(cx).is_ready();
            if ended || shut || time.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            Poll::Pending
        })
        .await;
        if was_rung {
            self.quiet = 0;
            self.next_look = self.now();
        }
    }
}

impl<St, P, C> Running<St, P, C> {
    fn now(&self) -> Instant {
        self.relay.config.clock.now()
    }

    fn warn(&self, what: &str, error: &StoreError) {
        tracing::warn!(target: "buttress", layer = self.relay.config.name.as_str(), %error, "{what}");
    }

    /// How long to leave a store alone that has just failed.
    fn pause(&self) -> Instant {
        let pause = self.relay.config.poll.max(Duration::from_millis(100));
        instant::after(self.now(), pause)
    }
}
