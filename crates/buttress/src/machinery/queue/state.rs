//! The data behind the queue's lock: the places, and the decisions for their waiters.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::places::{Entry, Places};
use super::{Lack, NotGranted, Resource};
use crate::vocabulary::clock;

/// The resolution of timers. A resource that comes within it after a deadline still came in time.
const GRAIN: Duration = Duration::from_millis(5);
/// A waiter is not woken to set its timer for a smaller difference.
const TRIFLE: Duration = Duration::from_micros(1);

pub(super) struct State<T> {
    pub places: Places,
    /// Decisions for waiters that have not polled yet.
    settled: BTreeMap<u64, Settled<T>>,
    /// When the grants in `settled` expire.
    claims: BTreeSet<(Instant, u64)>,
    /// The time up to which the queue was settled.
    settled_until: Option<Instant>,
    /// The time span in which time brought resources that the last waiters did not need, while they
    /// waited. A newcomer that comes soon after gets them: with an exact timer the waiters would
    /// have polled in between.
    spare: Option<(Instant, Instant)>,
}

struct Settled<T> {
    outcome: Result<T, NotGranted>,
    /// When the grant expires, and the entry of its waiter.
    claim: Option<(Instant, Entry)>,
}

/// Wakers to call, and wakers to drop, after the lock is released. Either may drop a task, whose
/// destructor may call the queue.
#[derive(Default)]
pub(super) struct Wake {
    call: Vec<Waker>,
    forget: Vec<Waker>,
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.call.drain(..).for_each(Waker::wake);
    }
}

impl<T> State<T> {
    pub(super) fn new() -> Self {
        Self {
            places: Places::default(),
            settled: BTreeMap::new(),
            claims: BTreeSet::new(),
            settled_until: None,
            spare: None,
        }
    }

    /// Takes the waker of a waiter that polls by itself. Returns `false` if it does not wait in the
    /// queue.
    pub(super) fn hush(&mut self, number: u64, wake: &mut Wake) -> bool {
        let Some((_, entry)) = self.places.get(number) else { return false };
        wake.forget.extend(entry.waker.take());
        true
    }

    /// Returns when a waiter must poll again. `None` if it is settled, or its longest wait is over.
    pub(super) fn look_again<R: Resource<Receipt = T>>(
        &mut self,
        number: u64,
        resource: &R,
        now: Instant,
        cx: &Context<'_>,
    ) -> Option<Option<Instant>> {
        let (ahead, entry) = self.places.get(number)?;
        if entry.deadline.is_some_and(|deadline| deadline <= now) {
            return None;
        }
        let due = resource.due(ahead, entry.cost, now);
        // No waiter is woken when a claim expires. Each waiter polls when the first claim expires,
        // and at least so often that it sees each grant before the grant expires.
        let lookout = entry.claim.map(|within| {
            let latest = clock::after(now, within);
            self.claims.first().map_or(latest, |(at, _)| latest.min(*at))
        });
        entry.looks_at = [due, entry.deadline, lookout].into_iter().flatten().min();
        entry.waker = Some(cx.waker().clone());
        Some(entry.looks_at)
    }

    /// Ends the wait of a waiter whose longest wait is over, if it still waits.
    pub(super) fn time_out<R: Resource<Receipt = T>>(
        &mut self,
        number: u64,
        resource: &R,
        now: Instant,
        wake: &mut Wake,
    ) {
        if self.places.get(number).is_some() {
            self.decide(number, Err(NotGranted::TimedOut), wake);
            self.settle(resource, now, wake);
        }
    }

    /// Returns the decision for a waiter that polled.
    pub(super) fn claim(&mut self, number: u64) -> Option<Result<T, NotGranted>> {
        let Settled { outcome, claim } = self.settled.remove(&number)?;
        if let Some((at, _)) = claim {
            self.claims.remove(&(at, number));
        }
        Some(outcome)
    }

    pub(super) fn forget(&mut self, number: u64, wake: &mut Wake) {
        let entry = self.places.remove(number);
        wake.forget.extend(entry.and_then(|entry| entry.waker));
    }

    /// Decides for the heads for which a decision is possible.
    pub(super) fn settle<R: Resource<Receipt = T>>(
        &mut self,
        resource: &R,
        now: Instant,
        wake: &mut Wake,
    ) {
        self.take_back(resource, now);
        // A clock can be earlier than at the last settling.
        let mut since = self.settled_until.map_or(now, |until| until.min(now));
        let (floor, waited) = (since, !self.places.is_empty());
        loop {
            let expired = self.places.first_deadline();
            let expired = expired
                .map(|(deadline, number)| (clock::after(deadline, GRAIN), number))
                .filter(|(at, _)| *at <= now);
            let Some((at, number)) = expired else {
                if self.serve_head(resource, since, now, now, wake) {
                    continue;
                }
                break;
            };
            // Resources that time had brought by then came in time, however late this settling is.
            if R::COMES_WITH_TIME && self.serve_head(resource, since, at, now, wake) {
                continue;
            }
            // A future that is never polled again must not be granted anything, nor block the queue
            // forever.
            self.decide(number, Err(NotGranted::TimedOut), wake);
            since = since.max(at);
        }
        self.settled_until = Some(now);
        let soon = |(_, until): &(_, Instant)| *until <= now && now <= clock::after(*until, GRAIN);
        self.spare = match self.spare.filter(soon) {
            _ if !self.places.is_empty() || !R::COMES_WITH_TIME => None,
            _ if waited => Some((floor, now)),
            spare => spare,
        };
        self.call_head(resource, now, wake);
    }

    /// Takes `cost` for a newcomer, if no call waits.
    pub(super) fn take_now<R: Resource<Receipt = T>>(
        &self,
        resource: &R,
        cost: u32,
        now: Instant,
    ) -> Option<T> {
        if !self.places.is_empty() {
            return None;
        }
        let (since, until) = self.spare.unwrap_or((now, now));
        resource.take(cost, since, until).or_else(|_| resource.take(cost, until, now)).ok()
    }

    /// Takes back the grants that were not claimed in time, and sets their waiters aside.
    fn take_back<R: Resource<Receipt = T>>(&mut self, resource: &R, now: Instant) {
        while let Some(&(at, number)) = self.claims.first().filter(|(at, _)| *at <= now) {
            self.claims.remove(&(at, number));
            let Some(Settled { outcome: Ok(receipt), claim: Some((_, entry)) }) =
                self.settled.remove(&number)
            else {
                continue;
            };
            resource.give_back(entry.cost, receipt, now);
            self.places.set_aside(number, entry);
        }
    }

    /// Decides for the head, if its resource is available as of a moment up to `until`, or can
    /// never be.
    fn serve_head<R: Resource<Receipt = T>>(
        &mut self,
        resource: &R,
        since: Instant,
        until: Instant,
        now: Instant,
        wake: &mut Wake,
    ) -> bool {
        let Some((number, head)) = self.places.head() else { return false };
        match resource.take(head.cost, since, until) {
            Ok(receipt) => self.grant(number, receipt, now, wake),
            Err(Lack::Never) => self.decide(number, Err(NotGranted::Never), wake),
            Err(Lack::Now) => return false,
        }
        true
    }

    fn grant(&mut self, number: u64, receipt: T, now: Instant, wake: &mut Wake) {
        let Some(mut entry) = self.places.remove(number) else { return };
        wake.call.extend(entry.waker.take());
        let claim = entry.claim.map(|within| (clock::after(now, within), entry));
        self.claims.extend(claim.as_ref().map(|(at, _)| (*at, number)));
        self.settled.insert(number, Settled { outcome: Ok(receipt), claim });
    }

    fn decide(&mut self, number: u64, outcome: Result<T, NotGranted>, wake: &mut Wake) {
        if let Some(entry) = self.places.remove(number) {
            wake.call.extend(entry.waker);
            self.settled.insert(number, Settled { outcome, claim: None });
        }
    }

    /// Wakes a head whose turn comes before its next poll, because the waiters ahead left or the
    /// rules changed.
    fn call_head<R: Resource>(&mut self, resource: &R, now: Instant, wake: &mut Wake) {
        let Some((_, head)) = self.places.head() else { return };
        let Some(due) = resource.due(0, head.cost, now) else { return };
        let late = head.looks_at.is_none_or(|looks_at| looks_at > clock::after(due, TRIFLE));
        if late {
            wake.call.extend(head.waker.take());
        }
    }

    /// Clears the resource's flag when the last waiter has left the queue without spare resources.
    pub(super) fn rest(&mut self, resource: &impl Resource) {
        if self.places.is_empty() && self.spare.is_none() {
            resource.set_waiting(false);
        }
    }
}
