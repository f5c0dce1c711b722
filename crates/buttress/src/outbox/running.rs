//! A relay at work: lease, write down, look, start, wait, and again.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tower::{BoxError, Service};

use super::config::HeadOfKey;
use super::deliver::{Delivery, deliver, panicked};
use super::message::Message;
use super::relay::Relay;
use super::state::{Desk, Next, Slip};
use super::stats::Gauges;
use super::store::{Lease, Settled, Store, Verdict};
use crate::classify::Classify;
use crate::clock;
use crate::store_error::StoreError;
use crate::unordered::Unordered;

/// How often delivered messages are purged.
const PURGE_EVERY: Duration = Duration::from_secs(60);
/// After how many looks that found nothing the relay looks less often.
const QUIET_LOOKS: u32 = 10;

type DeliveryFuture = Pin<Box<dyn Future<Output = Delivery> + Send>>;

pub(super) struct Running<St, P, C> {
    gauges: Gauges,
    desk: Desk,
    flights: Unordered<DeliveryFuture>,
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
            flights: Unordered::new(),
            lease_until: now,
            next_lease: now,
            next_give_up: now,
            next_look: now,
            next_write: now,
            next_purge: clock::after(now, PURGE_EVERY),
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

    fn now(&self) -> Instant {
        self.relay.config.clock.now()
    }

    fn warn(&self, what: &str, error: &StoreError) {
        tracing::warn!(target: "buttress", layer = self.relay.config.name.as_str(), %error, "{what}");
    }

    /// How long to leave a store alone that has just failed.
    fn pause(&self) -> Instant {
        let pause = self.relay.config.poll.max(Duration::from_millis(100));
        clock::after(self.now(), pause)
    }

    async fn renew(&mut self, stopping: bool) {
        let before = self.now();
        let give_up = self.desk.can_give_up() && before >= self.next_give_up;
        if before < self.next_lease && !give_up {
            return;
        }
        self.next_give_up = clock::after(before, self.relay.config.poll);
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
                self.lease_until = clock::after(before, length);
                self.next_lease = clock::after(before, length / 3);
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

    /// Whether there is room for messages, and the right to them.
    fn wants_more(&self, now: Instant) -> bool {
        let room = match self.desk.isolating() {
            Some(_) => 0,
            None => self.relay.config.batch / 2,
        };
        now < self.lease_until && self.desk.held() <= room
    }

    async fn look(&mut self) {
        let now = self.now();
        let batch = self.relay.config.batch;
        if now < self.next_look || !self.wants_more(now) {
            return;
        }
        let leases = self.desk.fetch_from();
        if leases.is_empty() {
            self.next_look = clock::after(now, self.relay.config.poll);
            return;
        }
        let limit = batch + self.desk.held();
        let store = &self.relay.store;
        let fetch = store.fetch(self.relay.id, &leases, limit);
        let fetched = match beside(&mut self.flights, &mut self.desk, fetch).await {
            Ok(fetched) => fetched,
            Err(error) => {
                self.warn("no messages fetched", &error);
                self.next_look = self.pause();
                return;
            }
        };
        self.relay.shared.bell.counts.update(|stats| stats.poll_cycles += 1);
        self.store_time = (now, fetched.now);
        let full = fetched.messages.len() >= limit;
        let next_due = fetched.next_due.map(|due| due.saturating_sub(fetched.now));
        let isolating = self.desk.isolating();
        let new = self.desk.take_in(fetched.messages);
        match isolating {
            Some(lease) if new == 0 => self.clear(lease).await,
            _ if full || isolating.is_some() => self.next_look = now,
            _ => self.rest(new, next_due),
        }
    }

    /// Nothing of this partition is suspect any more: look at the rest at once.
    async fn clear(&mut self, lease: Lease) {
        match self.relay.store.clear_suspects(lease).await {
            Ok(()) => self.desk.cleared(lease.partition),
            Err(error) if error.is_fenced() => self.next_lease = self.now(),
            Err(error) => {
                self.warn("suspects not cleared", &error);
                self.next_look = self.pause();
            }
        }
    }

    /// Sets the next look after one that found less than there was room for.
    fn rest(&mut self, new: usize, next_due: Option<Duration>) {
        let config = &self.relay.config;
        self.quiet = if new > 0 { 0 } else { self.quiet.saturating_add(1) };
        let doublings = self.quiet.saturating_sub(QUIET_LOOKS).min(30);
        let mut wait = config.poll.saturating_mul(1 << doublings).min(config.idle_poll);
        if let Some(next_due) = next_due {
            wait = wait.min(next_due);
        }
        self.next_look = clock::after(self.now(), wait);
    }

    /// Starts what may be published.
    async fn start(&mut self) {
        let most = self.relay.config.concurrency;
        while self.desk.under_way() < most && self.now() < self.lease_until {
            match self.desk.next() {
                Some(Next::Publish(message, lease)) => self.publish(message, lease),
                Some(Next::Alone(message, lease)) => self.publish_alone(message, lease).await,
                None => return,
            }
            collect(&mut self.flights, &mut self.desk);
        }
    }

    fn publish(&mut self, message: Message, lease: Lease) {
        let relay = &self.relay;
        if message.attempts > 0 || message.starts > 0 {
            relay.shared.bell.counts.update(|stats| stats.redelivered += 1);
        }
        let copy = || (relay.publisher.clone(), relay.classify.clone());
        let Ok((publisher, classify)) = catch_unwind(AssertUnwindSafe(copy)) else {
            let slip = Slip::of(&message);
            let verdict = panicked(&slip, &relay.config);
            return self.desk.ended(slip, lease, verdict);
        };
        let delivery = deliver(publisher, classify, message, lease, relay.config.clone());
        self.flights.push(Box::pin(delivery));
    }

    async fn publish_alone(&mut self, message: Message, lease: Lease) {
        let config = &self.relay.config;
        let claim = config.rng.next_u64();
        match self.relay.store.start(lease, message.id, claim).await {
            Ok(starts) if starts > config.max_starts => {
                let error = format!("brought the relay down {} times", starts - 1);
                let hold_key = config.head_of_key == HeadOfKey::Block;
                self.desk.ended(Slip::of(&message), lease, Verdict::Dead { error, hold_key });
            }
            Ok(starts) => self.publish(Message { starts, ..message }, lease),
            Err(error) => {
                self.desk.abandoned(&message);
                if error.is_fenced() {
                    self.next_lease = self.now();
                } else {
                    self.warn("start not written down", &error);
                }
                self.next_look = self.pause();
            }
        }
    }

    async fn purge(&mut self) {
        if self.now() < self.next_purge {
            return;
        }
        let config = &self.relay.config;
        let (age, batch) = (config.keep_delivered, config.purge_batch);
        let store = &self.relay.store;
        let purged = beside(&mut self.flights, &mut self.desk, store.purge(age, batch)).await;
        let again = match purged {
            Ok(purged) if purged >= batch => Duration::from_secs(1),
            Ok(_) => PURGE_EVERY,
            Err(error) => {
                self.warn("delivered messages not purged", &error);
                PURGE_EVERY
            }
        };
        self.next_purge = clock::after(self.now(), again);
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

/// Waits for `future`, and lets deliveries go on meanwhile.
async fn beside<T>(
    flights: &mut Unordered<DeliveryFuture>,
    desk: &mut Desk,
    future: impl Future<Output = T>,
) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            poll_flights(flights, desk, cx);
        }
        polled
    })
    .await
}

/// Takes in deliveries that have ended; whether there were any.
fn poll_flights(
    flights: &mut Unordered<DeliveryFuture>,
    desk: &mut Desk,
    cx: &mut Context<'_>,
) -> bool {
    let mut any = false;
    while let Poll::Ready(delivery) = flights.poll_next(cx) {
        desk.ended(delivery.slip, delivery.lease, delivery.verdict);
        any = true;
    }
    any
}

/// Takes in deliveries that end at once.
fn collect(flights: &mut Unordered<DeliveryFuture>, desk: &mut Desk) {
    // Whoever is not done is polled again, with a waker, by the next wait.
    poll_flights(flights, desk, &mut Context::from_waker(std::task::Waker::noop()));
}
