//! A bounded FIFO queue of waiters with one timer, shared by every pattern that can wait.
//!
//! Whoever brings a resource back, whoever looks for itself, and the timer settle the line: heads that
//! can have what they need get it, those whose time is over are told, and exactly these are woken. The
//! timer stands at the first deadline, or at the moment time itself brings what the head needs. It
//! wakes the queue, not a waiter, so nobody depends on another's task being polled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::clock::{self, Clock, Sleep};
use crate::sync::{Mutex, lock};

/// What the queue hands out. Called under the queue's lock; must not call back into the queue.
pub(crate) trait Resource {
    /// What a guard needs to give back what was taken.
    type Receipt: fmt::Debug;
    /// Takes `cost` for the waiter at the head.
    fn take(&self, cost: u32, now: Instant) -> Result<Self::Receipt, Lack>;
    /// Whether somebody waits. While it is set, newcomers must not take past the queue, and whoever
    /// gives something back must settle it.
    fn set_waiting(&self, waiting: bool);
}

/// Why the head cannot have what it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lack {
    /// Time alone will have brought it then.
    Until(Instant),
    /// Somebody must give some back.
    Freed,
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

/// What settling a line needs from its owner.
pub(crate) struct With<'a, R> {
    pub(crate) resource: &'a R,
    pub(crate) clock: &'a Clock,
    /// Settles this line when it is woken.
    pub(crate) settler: &'a Waker,
}

// By hand: deriving would ask `R` to be `Copy` too.
impl<R> Clone for With<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for With<'_, R> {}

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
    /// The cost of all who wait.
    cost: u64,
    timer: Option<Timer>,
}

struct Entry {
    cost: u32,
    deadline: Option<Instant>,
    /// `None` until it is polled.
    parked: Option<Parked>,
}

struct Parked {
    waker: Waker,
    runtime: Runtime,
}

type Runtime = Option<tokio::runtime::Id>;

/// A timer, and the runtime that drives it: nobody else may touch it, and when the head belongs to
/// another one, which may outlive the first, it makes a timer of its own.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    at: Instant,
    runtime: Runtime,
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

impl<R: Resource> WaitQueue<R> {
    pub(crate) fn new() -> Self {
        Self {
            line: Mutex::new(Line {
                waiting: BTreeMap::new(),
                deadlines: BTreeSet::new(),
                settled: BTreeMap::new(),
                next: 0,
                peak: 0,
                cost: 0,
                timer: None,
            }),
        }
    }

    /// Takes what is asked for, or a place at the end; `admits` can still refuse a place, knowing what
    /// is owed to those ahead.
    pub(crate) fn join(
        &self,
        with: With<'_, R>,
        Ask { cost, capacity, longest }: Ask,
        admits: impl FnOnce(Instant, u64) -> bool,
    ) -> Joined<R::Receipt> {
        let mut wake = Wake::default();
        let now = with.clock.now();
        let mut line = lock(&self.line);
        // First announce, then look: whoever gives something back before the announcement is seen by
        // the look, whoever does so after it will settle.
        with.resource.set_waiting(true);
        line.settle(with, now, &mut wake);
        let taken = if line.waiting.is_empty() { with.resource.take(cost, now).ok() } else { None };
        let joined = if let Some(receipt) = taken {
            Joined::Granted(receipt)
        } else if line.waiting.len() >= capacity || !admits(now, line.cost) {
            Joined::Full
        } else {
            let deadline = longest.map(|longest| clock::after(now, longest));
            Joined::Waiting(Place(line.enter(cost, deadline)))
        };
        line.rest(with.resource);
        joined
    }

    /// Ready once the place is settled.
    pub(crate) fn poll(
        &self,
        with: With<'_, R>,
        place: &Place,
        cx: &mut Context<'_>,
    ) -> Poll<Result<R::Receipt, InVain>> {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        // Nobody is woken by its own look.
        line.unpark(place, &mut wake);
        if !line.settled.contains_key(&place.0) {
            let now = with.clock.now();
            let due = line.settle_without_timer(with, now, &mut wake);
            line.park(place, cx);
            line.arm(with, due, true, &mut wake);
            line.rest(with.resource);
        }
        line.settled.remove(&place.0).map_or(Poll::Pending, Poll::Ready)
    }

    /// Gives up a place. What had been granted meanwhile is the caller's to give back.
    #[must_use]
    pub(crate) fn leave(&self, with: With<'_, R>, place: &Place) -> Option<R::Receipt> {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        if let Some(settled) = line.settled.remove(&place.0) {
            return settled.ok();
        }
        line.unpark(place, &mut wake);
        line.remove(place.0);
        // The one behind may need less, or another time.
        line.settle(with, with.clock.now(), &mut wake);
        line.rest(with.resource);
        None
    }

    /// Settles the line: something was given back, the terms changed, or the time has come.
    pub(crate) fn settle(&self, with: With<'_, R>) {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        line.settle(with, with.clock.now(), &mut wake);
        line.rest(with.resource);
    }

    /// How many wait, the most that ever did, and what those waiting will cost.
    pub(crate) fn gauges(&self) -> (usize, usize, u64) {
        let line = lock(&self.line);
        (line.waiting.len(), line.peak, line.cost)
    }
}

impl<T> Line<T> {
    fn enter(&mut self, cost: u32, deadline: Option<Instant>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, Entry { cost, deadline, parked: None });
        self.deadlines.extend(deadline.map(|deadline| (deadline, number)));
        self.peak = self.peak.max(self.waiting.len());
        self.cost += u64::from(cost);
        number
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.waiting.remove(&number)?;
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        self.cost -= u64::from(entry.cost);
        Some(entry)
    }

    fn park(&mut self, place: &Place, cx: &Context<'_>) {
        if let Some(entry) = self.waiting.get_mut(&place.0) {
            let (waker, runtime) = (cx.waker().clone(), current_runtime());
            entry.parked = Some(Parked { waker, runtime });
        }
    }

    fn unpark(&mut self, place: &Place, wake: &mut Wake) {
        let parked = self.waiting.get_mut(&place.0).and_then(|entry| entry.parked.take());
        wake.forget.extend(parked.map(|parked| parked.waker));
    }

    fn settle<R: Resource<Receipt = T>>(
        &mut self,
        with: With<'_, R>,
        now: Instant,
        wake: &mut Wake,
    ) {
        let due = self.settle_without_timer(with, now, wake);
        self.arm(with, due, false, wake);
    }

    /// Decides for everybody who can be decided for. Returns when time will bring what the head needs.
    fn settle_without_timer<R: Resource<Receipt = T>>(
        &mut self,
        with: With<'_, R>,
        now: Instant,
        wake: &mut Wake,
    ) -> Option<Instant> {
        // One who left the queue alone for long, a forgotten future, must not be given anything.
        while let Some(&(deadline, number)) = self.deadlines.first() {
            if clock::after(deadline, GRAIN) > now {
                break;
            }
            self.decide(number, Err(InVain::TimedOut), wake);
        }
        while let Some((&number, head)) = self.waiting.first_key_value() {
            let late = head.deadline.is_some_and(|deadline| deadline <= now);
            let decided = match with.resource.take(head.cost, now) {
                Ok(receipt) => Ok(receipt),
                Err(Lack::Never) => Err(InVain::Never),
                Err(_) if late => Err(InVain::TimedOut),
                Err(Lack::Until(due)) => return self.expire(now, wake, Some(due)),
                Err(Lack::Freed) => return self.expire(now, wake, None),
            };
            self.decide(number, decided, wake);
        }
        None
    }

    /// Tells those behind a waiting head whose time is over.
    fn expire(&mut self, now: Instant, wake: &mut Wake, due: Option<Instant>) -> Option<Instant> {
        while let Some(&(deadline, number)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.decide(number, Err(InVain::TimedOut), wake);
        }
        due
    }

    fn decide(&mut self, number: u64, decided: Result<T, InVain>, wake: &mut Wake) {
        if let Some(entry) = self.remove(number) {
            wake.call.extend(entry.parked.map(|parked| parked.waker));
            self.settled.insert(number, decided);
        }
    }

    /// Sets the timer to the first deadline, or to `due` if that is sooner. `own` says that a waiter is
    /// asking, who is surely polled inside its runtime.
    fn arm<R>(&mut self, with: With<'_, R>, due: Option<Instant>, own: bool, wake: &mut Wake) {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let at = [deadline, due].into_iter().flatten().min();
        let (Some(at), Some((_, head))) = (at, self.waiting.first_key_value()) else {
            self.timer = None;
            return;
        };
        let here = current_runtime();
        let home = head.parked.as_ref().map(|parked| parked.runtime);
        // A head that is of another runtime than the timer may outlive it.
        if self.timer.as_ref().is_some_and(|timer| home.is_some_and(|home| home != timer.runtime)) {
            self.timer = None;
        }
        match &mut self.timer {
            Some(timer) if timer.at == at => {}
            Some(timer) if timer.runtime == here => {
                timer.at = at;
                timer.sleep.as_mut().reset(at);
                poll_timer(timer, with.settler, wake);
            }
            empty if own || here.is_some() && home.is_none_or(|home| home == here) => {
                let sleep = Box::pin(with.clock.sleep_until(at));
                let timer = empty.insert(Timer { sleep, at, runtime: here });
                poll_timer(timer, with.settler, wake);
            }
            other => {
                // Only in its own runtime can a timer be set: the head must come and do it.
                *other = None;
                wake.call.extend(head.parked.as_ref().map(|parked| parked.waker.clone()));
            }
        }
    }

    /// Tells the resource when the last waiter is gone.
    fn rest(&mut self, resource: &impl Resource) {
        if self.waiting.is_empty() {
            self.timer = None;
            resource.set_waiting(false);
        }
    }
}

fn poll_timer(timer: &mut Timer, settler: &Waker, wake: &mut Wake) {
    let polled = timer.sleep.as_mut().poll(&mut Context::from_waker(settler));
    if polled.is_ready() {
        wake.call.push(settler.clone());
    }
}

fn current_runtime() -> Runtime {
    tokio::runtime::Handle::try_current().ok().map(|handle| handle.id())
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
