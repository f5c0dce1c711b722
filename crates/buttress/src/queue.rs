//! A bounded FIFO queue of waiters, shared by every pattern that can wait.
//!
//! Whoever brings a resource back, and whoever looks for itself, settles the line: heads that can have
//! what they need get it, and exactly these are woken. Every waiter has a timer of its own, set to the
//! moment when time will have brought what it needs, or its longest wait ends; so nobody depends on
//! another's task, thread or runtime. No timer is touched under the queue's lock, because tokio may
//! wake whoever waits on one right there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::clock;
use crate::sync::{Mutex, lock};

/// What the queue hands out. Called under the queue's lock; must not call back into the queue.
pub(crate) trait Resource {
    /// What a guard needs to give back what was taken.
    type Receipt: fmt::Debug;
    /// Takes `cost` for the waiter at the head.
    fn take(&self, cost: u32, now: Instant) -> Result<Self::Receipt, Lack>;
    /// When time alone will have brought `cost` after `ahead` was taken by others, if it will.
    fn due(&self, ahead: u64, cost: u32, now: Instant) -> Option<Instant>;
    /// Whether somebody waits. While it is set, newcomers must not take past the queue, and whoever
    /// gives something back must settle it.
    fn set_waiting(&self, waiting: bool);
}

/// Why the head cannot have what it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lack {
    /// Time, or somebody who gives some back, must bring it.
    Now,
    /// It asks for more than there can be.
    Never,
}

/// A place in the queue. It must be given to [`WaitQueue::leave`] unless [`WaitQueue::poll`] settled it.
#[derive(Debug)]
pub(crate) struct Place(u64);

/// What a newcomer wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) cost: u32,
    /// The most that may wait, this one included.
    pub(crate) capacity: usize,
    /// How long the place is kept; `None` for as long as it takes.
    pub(crate) longest: Option<Duration>,
}

/// How joining went.
#[derive(Debug)]
pub(crate) enum Joined<T> {
    /// The resource was taken on the spot.
    Granted(T),
    /// The caller waits its turn.
    Waiting(Place),
    /// The queue is full.
    Full,
}

/// How waiting ended without the resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum InVain {
    /// The place was kept for its longest wait.
    TimedOut,
    /// What was asked for can never be had any more.
    Never,
}

/// How looking went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Looked<T> {
    Settled(Result<T, InVain>),
    /// Wait to be woken, and look again at that time.
    Again(Option<Instant>),
}

pub(crate) struct WaitQueue<R: Resource> {
    line: Mutex<Line<R::Receipt>>,
}

struct Line<T> {
    /// Those who wait, by number, first come first.
    waiting: BTreeMap<u64, Entry>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// What was decided for those who have not asked yet.
    settled: BTreeMap<u64, Result<T, InVain>>,
    next: u64,
    peak: usize,
    /// The cost of all who ever came, and of those who are gone.
    entered: u64,
    gone: u64,
}

struct Entry {
    cost: u32,
    /// The cost of all who came before.
    before: u64,
    deadline: Option<Instant>,
    /// `None` until it is polled.
    waker: Option<Waker>,
    /// When it will look by itself.
    looks_at: Option<Instant>,
}

/// Wakers to call, and others to let go, once the lock is released: either may drop a task, whose
/// destructor may come back here.
#[derive(Default)]
struct Wake {
    call: Vec<Waker>,
    forget: Vec<Waker>,
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.call.drain(..).for_each(Waker::wake);
    }
}

/// Timers are late by up to their grain: what comes within it after a deadline still came in time.
const GRAIN: Duration = Duration::from_millis(5);
/// A waiter is not called to set its timer anew for less.
const TRIFLE: Duration = Duration::from_micros(1);

impl<R: Resource> WaitQueue<R> {
    pub(crate) fn new() -> Self {
        Self {
            line: Mutex::new(Line {
                waiting: BTreeMap::new(),
                deadlines: BTreeSet::new(),
                settled: BTreeMap::new(),
                next: 0,
                peak: 0,
                entered: 0,
                gone: 0,
            }),
        }
    }

    /// Takes what is asked for, or a place at the end; `admits` can still refuse a place, knowing what
    /// is owed to those ahead.
    pub(crate) fn join(
        &self,
        resource: &R,
        Ask { cost, capacity, longest }: Ask,
        now: Instant,
        admits: impl FnOnce(u64) -> bool,
    ) -> Joined<R::Receipt> {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        // First announce, then look: whoever gives something back before the announcement is seen by
        // the look, whoever does so after it will settle.
        resource.set_waiting(true);
        line.settle(resource, now, &mut wake);
        let taken = if line.waiting.is_empty() { resource.take(cost, now).ok() } else { None };
        let joined = if let Some(receipt) = taken {
            Joined::Granted(receipt)
        } else if line.waiting.len() >= capacity || !admits(line.owed()) {
            Joined::Full
        } else {
            let deadline = longest.map(|longest| clock::after(now, longest));
            Joined::Waiting(Place(line.enter(cost, deadline)))
        };
        line.rest(resource);
        joined
    }

    /// Looks whether the place is settled.
    pub(crate) fn poll(
        &self,
        resource: &R,
        place: &Place,
        now: Instant,
        cx: &Context<'_>,
    ) -> Looked<R::Receipt> {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        if let Some(entry) = line.waiting.get_mut(&place.0) {
            // Nobody is woken by its own look.
            wake.forget.extend(entry.waker.take());
            line.settle(resource, now, &mut wake);
            line.rest(resource);
        }
        let gone = line.gone;
        if let Some(entry) = line.waiting.get_mut(&place.0) {
            if entry.deadline.is_none_or(|deadline| deadline > now) {
                let due = resource.due(entry.before.saturating_sub(gone), entry.cost, now);
                entry.looks_at = [due, entry.deadline].into_iter().flatten().min();
                entry.waker = Some(cx.waker().clone());
                return Looked::Again(entry.looks_at);
            }
            line.decide(place.0, Err(InVain::TimedOut), &mut wake);
            line.settle(resource, now, &mut wake);
            line.rest(resource);
        }
        match line.settled.remove(&place.0) {
            Some(settled) => Looked::Settled(settled),
            None => Looked::Again(None),
        }
    }

    /// Gives up a place. What had been granted meanwhile is the caller's to give back.
    #[must_use]
    pub(crate) fn leave(&self, resource: &R, place: &Place, now: Instant) -> Option<R::Receipt> {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        if let Some(settled) = line.settled.remove(&place.0) {
            return settled.ok();
        }
        let entry = line.remove(place.0);
        wake.forget.extend(entry.and_then(|entry| entry.waker));
        // The one behind may need less, or comes sooner.
        line.settle(resource, now, &mut wake);
        line.rest(resource);
        None
    }

    /// Settles the line: something was given back, or the terms changed.
    pub(crate) fn settle(&self, resource: &R, now: Instant) {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        line.settle(resource, now, &mut wake);
        line.rest(resource);
    }

    /// How many wait, the most that ever did, and what those waiting will cost.
    pub(crate) fn gauges(&self) -> (usize, usize, u64) {
        let line = lock(&self.line);
        (line.waiting.len(), line.peak, line.owed())
    }
}

impl<T> Line<T> {
    /// The cost of all who wait.
    fn owed(&self) -> u64 {
        self.entered - self.gone
    }

    fn enter(&mut self, cost: u32, deadline: Option<Instant>) -> u64 {
        let number = self.next;
        self.next += 1;
        let before = self.entered;
        self.entered += u64::from(cost);
        self.waiting.insert(number, Entry { cost, before, deadline, waker: None, looks_at: None });
        self.deadlines.extend(deadline.map(|deadline| (deadline, number)));
        self.peak = self.peak.max(self.waiting.len());
        number
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.waiting.remove(&number)?;
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        self.gone += u64::from(entry.cost);
        Some(entry)
    }

    /// Decides for the heads that can be decided for.
    fn settle<R: Resource<Receipt = T>>(&mut self, resource: &R, now: Instant, wake: &mut Wake) {
        // A future that was forgotten must not be given anything, nor stand in the way for ever.
        while let Some(&(deadline, number)) = self.deadlines.first() {
            if clock::after(deadline, GRAIN) > now {
                break;
            }
            self.decide(number, Err(InVain::TimedOut), wake);
        }
        while let Some((&number, head)) = self.waiting.first_key_value() {
            let decided = match resource.take(head.cost, now) {
                Ok(receipt) => Ok(receipt),
                Err(Lack::Never) => Err(InVain::Never),
                Err(Lack::Now) => return self.call_head(resource, now, wake),
            };
            self.decide(number, decided, wake);
        }
    }

    /// Calls a head whose turn comes sooner than it will look: those ahead left, or the terms changed.
    fn call_head<R: Resource>(&mut self, resource: &R, now: Instant, wake: &mut Wake) {
        let Some(mut head) = self.waiting.first_entry() else { return };
        let head = head.get_mut();
        let Some(due) = resource.due(0, head.cost, now) else { return };
        let late = head.looks_at.is_none_or(|looks_at| looks_at > clock::after(due, TRIFLE));
        if late {
            wake.call.extend(head.waker.take());
        }
    }

    fn decide(&mut self, number: u64, decided: Result<T, InVain>, wake: &mut Wake) {
        if let Some(entry) = self.remove(number) {
            wake.call.extend(entry.waker);
            self.settled.insert(number, decided);
        }
    }

    /// Tells the resource when the last waiter is gone.
    fn rest(&mut self, resource: &impl Resource) {
        if self.waiting.is_empty() {
            resource.set_waiting(false);
        }
    }
}

impl<R: Resource> fmt::Debug for WaitQueue<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waiting, peak, _) = self.gauges();
        f.debug_struct("WaitQueue").field("waiting", &waiting).field("peak", &peak).finish()
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "queue/tests.rs"]
#[expect(clippy::panic, reason = "test helpers")]
mod tests;
