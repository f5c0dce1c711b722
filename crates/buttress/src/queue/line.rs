//! The line behind the queue's lock: who waits, who was granted something, who was set aside.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::{InVain, Lack, Resource};
use crate::clock;

/// Timers are late by up to their grain: what comes within it after a deadline still came in time.
const GRAIN: Duration = Duration::from_millis(5);
/// A waiter is not woken to set its timer again for less.
const TRIFLE: Duration = Duration::from_micros(1);

pub(super) struct Line<T> {
    /// Who waits, by number, first come first. Each one's `before` and `cost` add up to the `before` of
    /// the next.
    waiting: BTreeMap<u64, Entry>,
    /// Who was granted something, did not come for it, and has not come since.
    aside: BTreeMap<u64, Entry>,
    /// Of the waiting and of those aside.
    deadlines: BTreeSet<(Instant, u64)>,
    /// What was decided for waiters that have not asked yet.
    settled: BTreeMap<u64, Settled<T>>,
    /// When the grants among these are taken back.
    claims: BTreeSet<(Instant, u64)>,
    /// Up to when everything was settled.
    settled_until: Option<Instant>,
    /// From when to when time brought what the last waiters did not need, while they waited. A newcomer that
    /// comes soon after has it: with an exact timer they would have asked again in between.
    spare: Option<(Instant, Instant)>,
    next: u64,
    peak: usize,
    /// The `before` of the next newcomer, and of the head.
    entered: u64,
    gone: u64,
}

struct Settled<T> {
    outcome: Result<T, InVain>,
    /// When the grant is taken back, and the waiter it is taken from.
    claim: Option<(Instant, Entry)>,
}

struct Entry {
    cost: u32,
    /// What had been asked for before, since the line was made.
    before: u64,
    deadline: Option<Instant>,
    claim: Option<Duration>,
    /// `None` until it is polled.
    waker: Option<Waker>,
    /// When it will look by itself.
    looks_at: Option<Instant>,
}

/// Wakers to call, and others to drop, once the lock is released: either may drop a task, whose
/// destructor may come back to the queue.
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

impl<T> Line<T> {
    pub(super) fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            aside: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            settled: BTreeMap::new(),
            claims: BTreeSet::new(),
            settled_until: None,
            spare: None,
            next: 0,
            peak: 0,
            entered: 0,
            gone: 0,
        }
    }

    /// Whether a newcomer would be the head.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many have a place, the ones set aside included.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.aside.len()
    }

    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    /// The cost of all in line.
    pub(super) fn owed(&self) -> u64 {
        self.entered - self.gone
    }

    pub(super) fn enter(
        &mut self,
        cost: u32,
        deadline: Option<Instant>,
        claim: Option<Duration>,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        let entry = Entry { cost, before: 0, deadline, claim, waker: None, looks_at: None };
        self.insert(number, entry);
        self.deadlines.extend(deadline.map(|deadline| (deadline, number)));
        self.peak = self.peak.max(self.len());
        number
    }

    fn insert(&mut self, number: u64, mut entry: Entry) {
        let cost = u64::from(entry.cost);
        let mut behind = self.waiting.range_mut(number..).map(|(_, behind)| &mut behind.before);
        entry.before = match behind.next() {
            Some(next) => std::mem::replace(next, *next + cost),
            None => self.entered,
        };
        behind.for_each(|before| *before += cost);
        self.entered += cost;
        self.waiting.insert(number, entry);
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = match self.waiting.remove(&number) {
            Some(entry) => {
                let cost = u64::from(entry.cost);
                if self.is_first(number) {
                    self.gone += cost;
                } else {
                    let behind = self.waiting.range_mut(number..);
                    behind.for_each(|(_, behind)| behind.before -= cost);
                    self.entered -= cost;
                }
                entry
            }
            None => self.aside.remove(&number)?,
        };
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        Some(entry)
    }

    /// Whether nobody in line came before this number.
    fn is_first(&self, number: u64) -> bool {
        self.waiting.first_key_value().is_none_or(|(first, _)| *first > number)
    }

    /// Returns a waiter that was set aside to its place in line. False if it was not.
    pub(super) fn come_back(&mut self, number: u64) -> bool {
        let Some(entry) = self.aside.remove(&number) else { return false };
        self.insert(number, entry);
        true
    }

    /// Takes the waker of a waiter that looks by itself. False if it does not wait any more.
    pub(super) fn hush(&mut self, number: u64, wake: &mut Wake) -> bool {
        let Some(entry) = self.waiting.get_mut(&number) else { return false };
        wake.forget.extend(entry.waker.take());
        true
    }

    /// When a waiter must look again; `None` if it is settled, or its longest wait is over.
    pub(super) fn look_again<R: Resource<Receipt = T>>(
        &mut self,
        number: u64,
        resource: &R,
        now: Instant,
        cx: &Context<'_>,
    ) -> Option<Option<Instant>> {
        let entry = self.waiting.get_mut(&number)?;
        if entry.deadline.is_some_and(|deadline| deadline <= now) {
            return None;
        }
        let due = resource.due(entry.before - self.gone, entry.cost, now);
        // No waiter is woken for a claim that passes. It looks when the first one does, and at least so
        // often that it sees each grant before it is taken back.
        let lookout = entry.claim.map(|within| {
            let latest = clock::after(now, within);
            self.claims.first().map_or(latest, |(at, _)| latest.min(*at))
        });
        entry.looks_at = [due, entry.deadline, lookout].into_iter().flatten().min();
        entry.waker = Some(cx.waker().clone());
        Some(entry.looks_at)
    }

    /// Ends the wait of one whose longest wait is over, if it still waits.
    pub(super) fn time_out<R: Resource<Receipt = T>>(
        &mut self,
        number: u64,
        resource: &R,
        now: Instant,
        wake: &mut Wake,
    ) {
        if self.waiting.contains_key(&number) {
            self.decide(number, Err(InVain::TimedOut), wake);
            self.settle(resource, now, wake);
        }
    }

    /// What was decided for a waiter that came for it.
    pub(super) fn claim(&mut self, number: u64) -> Option<Result<T, InVain>> {
        let Settled { outcome, claim } = self.settled.remove(&number)?;
        if let Some((at, _)) = claim {
            self.claims.remove(&(at, number));
        }
        Some(outcome)
    }

    pub(super) fn forget(&mut self, number: u64, wake: &mut Wake) {
        let entry = self.remove(number);
        wake.forget.extend(entry.and_then(|entry| entry.waker));
    }

    /// Decides for the heads that can be decided for.
    pub(super) fn settle<R: Resource<Receipt = T>>(
        &mut self,
        resource: &R,
        now: Instant,
        wake: &mut Wake,
    ) {
        self.take_back(resource, now);
        // A clock can stand earlier than that of the last look.
        let mut since = self.settled_until.map_or(now, |until| until.min(now));
        let (floor, waited) = (since, !self.waiting.is_empty());
        loop {
            let expired = self.deadlines.first().copied();
            let expired = expired
                .map(|(deadline, number)| (clock::after(deadline, GRAIN), number))
                .filter(|(at, _)| *at <= now);
            let Some((at, number)) = expired else {
                if self.serve_head(resource, since, now, now, wake) {
                    continue;
                }
                break;
            };
            // What time had brought by then came in time, however late this look is.
            if R::COMES_WITH_TIME && self.serve_head(resource, since, at, now, wake) {
                continue;
            }
            // A future that was forgotten must not be given anything, nor stand in the way for ever.
            self.decide(number, Err(InVain::TimedOut), wake);
            since = since.max(at);
        }
        self.settled_until = Some(now);
        let soon = |(_, until): &(_, Instant)| *until <= now && now <= clock::after(*until, GRAIN);
        self.spare = match self.spare.filter(soon) {
            _ if !self.waiting.is_empty() || !R::COMES_WITH_TIME => None,
            _ if waited => Some((floor, now)),
            spare => spare,
        };
        self.call_head(resource, now, wake);
    }

    /// Takes `cost` for a newcomer, if nobody waits.
    pub(super) fn take_now<R: Resource<Receipt = T>>(
        &self,
        resource: &R,
        cost: u32,
        now: Instant,
    ) -> Option<T> {
        if !self.waiting.is_empty() {
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
            self.deadlines.extend(entry.deadline.map(|deadline| (deadline, number)));
            self.aside.insert(number, entry);
        }
    }

    /// Decides for the head, if it can have what it needs as of a moment up to `until`, or never can.
    fn serve_head<R: Resource<Receipt = T>>(
        &mut self,
        resource: &R,
        since: Instant,
        until: Instant,
        now: Instant,
        wake: &mut Wake,
    ) -> bool {
        let Some((&number, head)) = self.waiting.first_key_value() else { return false };
        match resource.take(head.cost, since, until) {
            Ok(receipt) => self.grant(number, receipt, now, wake),
            Err(Lack::Never) => self.decide(number, Err(InVain::Never), wake),
            Err(Lack::Now) => return false,
        }
        true
    }

    fn grant(&mut self, number: u64, receipt: T, now: Instant, wake: &mut Wake) {
        let Some(mut entry) = self.remove(number) else { return };
        wake.call.extend(entry.waker.take());
        let claim = entry.claim.map(|within| (clock::after(now, within), entry));
        self.claims.extend(claim.as_ref().map(|(at, _)| (*at, number)));
        self.settled.insert(number, Settled { outcome: Ok(receipt), claim });
    }

    fn decide(&mut self, number: u64, outcome: Result<T, InVain>, wake: &mut Wake) {
        if let Some(entry) = self.remove(number) {
            wake.call.extend(entry.waker);
            self.settled.insert(number, Settled { outcome, claim: None });
        }
    }

    /// Wakes a head whose turn comes sooner than it will look: the ones ahead left, or the terms changed.
    fn call_head<R: Resource>(&mut self, resource: &R, now: Instant, wake: &mut Wake) {
        let Some(mut head) = self.waiting.first_entry() else { return };
        let head = head.get_mut();
        let Some(due) = resource.due(0, head.cost, now) else { return };
        let late = head.looks_at.is_none_or(|looks_at| looks_at > clock::after(due, TRIFLE));
        if late {
            wake.call.extend(head.waker.take());
        }
    }

    /// Tells the resource when the last waiter in line is gone, and left nothing to spare.
    pub(super) fn rest(&mut self, resource: &impl Resource) {
        if self.waiting.is_empty() && self.spare.is_none() {
            resource.set_waiting(false);
        }
    }
}
