//! The loop of a relay: record results, poll for messages, start deliveries, wait, repeat.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::message::{Message, MessageId};
use super::relay::Relay;
use super::state::Pending;
use super::state::refusals::Refusals;
use super::stats::Gauges;
use super::store::Store;
use crate::causes::WithCauses;
use crate::instant;
use crate::outage::Outage;
use crate::serves::Serves;
use buttress::Classify;
use buttress::Sleep;

mod in_flight;
mod ownership;
mod polling;
mod purging;
mod renewing;
mod settling;
mod starting;
mod troubles;

use in_flight::InFlight;
use ownership::Ownership;
use purging::{PURGE_EVERY, Purge};
use renewing::Renewing;
use troubles::Operation;

/// After this many polls for messages a relay looks for partitions, unless its lease ends sooner.
const POLLS_PER_LEASE: u32 = 10;

pub(super) struct Running<St, P, C> {
    gauges: Gauges,
    pending: Pending,
    in_flight: InFlight,
    stopping: bool,
    /// The leases that this relay knows of.
    ownership: Arc<Ownership>,
    renewal: Option<Renewing>,
    /// The timer of the next renewal, and the time that it is set to.
    renewal_timer: (Pin<Box<Sleep>>, Instant),
    purge: Option<Purge>,
    /// The timer of a wait, and the time that it is set to. The next wait often has the same time.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    /// Claims of starts whose answers were lost or late, or whose deliveries have no verdict yet. The store counts a
    /// repeated claim once.
    claims: HashMap<MessageId, u64>,
    outage: Outage<{ Operation::COUNT }>,
    refusals: Refusals,
    next_lease: Instant,
    next_release: Instant,
    next_poll: Instant,
    next_write: Instant,
    next_purge: Instant,
    /// When the relay records the results again that the store refused.
    next_aside: Instant,
    /// Polls in a row that found nothing.
    quiet: u32,
    /// How many messages that the last looks found are of keys that stand still here.
    standing_still: usize,
    /// Purges in a row that found nothing.
    idle_purges: u32,
    /// How many messages the next purge may remove.
    purge_limit: usize,
    /// The store's wall time at an instant.
    store_time: (Instant, Duration),
    // The last field: its drop reports the end of the relay, and all other fields must be dropped
    // before.
    relay: Relay<St, P, C>,
}

impl<St, P, C> Running<St, P, C>
where
    St: Store,
    P: Serves<Message>,
    C: Classify<P::Response, P::Error> + Clone + Send + Sync + 'static,
{
    pub(super) fn new(relay: Relay<St, P, C>) -> Self {
        let now = relay.config.common.clock.now();
        Self {
            gauges: Gauges::new(&relay.shared.notifier.counts),
            pending: Pending::default(),
            in_flight: InFlight::new(),
            stopping: false,
            ownership: Arc::new(Ownership::new(now)),
            renewal: None,
            renewal_timer: (Box::pin(relay.config.common.clock.sleep_until(now)), now),
            purge: None,
            timer: None,
            claims: HashMap::new(),
            outage: Outage::default(),
            refusals: Refusals::default(),
            next_lease: now,
            next_release: now,
            next_poll: now,
            next_write: now,
            // A short time is over earlier.
            next_purge: instant::after(now, relay.config.keep_delivered.min(PURGE_EVERY)),
            next_aside: now,
            quiet: 0,
            standing_still: 0,
            idle_purges: 0,
            purge_limit: relay.config.purge_batch,
            store_time: (now, Duration::ZERO),
            relay,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.stopping = self.relay.shared.shutting_down.load(Ordering::Acquire);
            if self.stopping {
                self.pending.forget_waiting();
            }
            poll_fn(|cx| Poll::Ready(self.tend(cx))).await;
            self.write_down().await;
            if self.stopping {
                if self.pending.under_way() == 0 && self.pending.settled().is_empty() {
                    break;
                }
            } else {
                self.write_aside().await;
                self.poll_store().await;
                self.start().await;
                self.purge();
            }
            self.wait().await;
        }
        self.end().await;
    }

    /// Ends the purge and the renewal, and releases all partitions.
    async fn end(mut self) {
        self.purge = None;
        // If the store carried out a renewal later, it would take the partitions again.
        while self.renewal.is_some() {
            poll_fn(|cx| if self.tend(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        }
        let (store, id) = (self.relay.store.clone(), self.relay.id);
        if let Err(error) = self.beside(store.release_partitions(id)).await {
            tracing::warn!(
                target: "buttress", layer = self.relay.config.layer().as_str(), error = %WithCauses(&error),
                "the relay did not release its partitions: another relay takes them after the lease"
            );
        }
    }

    /// Waits until a delivery ends, a message is written, or the next task is due.
    async fn wait(&mut self) {
        self.wait_once().await;
        // To record each result alone costs more than its delivery. So the relay starts the next deliveries, gives their
        // connection a turn, and records the results together.
        while self.may_gather() && self.start_ready() {
            tokio::task::yield_now().await;
            if !poll_fn(|cx| Poll::Ready(self.tend(cx))).await {
                break;
            }
        }
    }

    /// Whether further results may join those that wait to be recorded.
    fn may_gather(&self) -> bool {
        let gathered = self.pending.settled().len();
        (1..self.relay.config.concurrency).contains(&gathered)
            && !self.relay.shared.shutting_down.load(Ordering::Acquire)
    }

    async fn wait_once(&mut self) {
        self.gauges.in_flight(self.pending.under_way() as u64);
        let shared = self.relay.shared.clone();
        let stopping = self.stopping;
        let mut at = None;
        let mut sooner = |time: Instant| at = Some(at.map_or(time, |at: Instant| at.min(time)));
        if !self.pending.settled().is_empty() {
            sooner(self.next_write);
        }
        if !stopping {
            if self.purge.is_none() {
                sooner(self.next_purge);
            }
            if self.wants_more(self.now()) {
                sooner(self.next_poll);
            }
            if self.pending.has_aside() {
                sooner(self.next_aside);
            }
        }
        if self.timer.as_ref().map(|(at, _)| *at) != at {
            let clock = &self.relay.config.common.clock;
            self.timer = at.map(|at| (at, Box::pin(clock.sleep_until(at))));
        }
        let mut notified = pin!(shared.notified.notified());
        let mut shut = pin!(shared.shut.notified());
        let was_notified = poll_fn(|cx| {
            let new = self.tend(cx);
            if !stopping && notified.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            let shut = !stopping && shut.as_mut().poll(cx).is_ready();
            let time =
                self.timer.as_mut().is_some_and(|(_, time)| time.as_mut().poll(cx).is_ready());
            if new || shut || time { Poll::Ready(false) } else { Poll::Pending }
        })
        .await;
        // A failing store keeps its wait until the next attempt.
        if was_notified && !self.outage.fails(Operation::Fetch as usize) {
            self.quiet = 0;
            self.next_poll = self.now();
        }
    }
}

impl<St, P, C> Running<St, P, C> {
    fn now(&self) -> Instant {
        self.relay.config.common.clock.now()
    }
}
