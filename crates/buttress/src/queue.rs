//! A bounded FIFO queue of waiters with one timer, shared by every pattern that can wait.
//!
//! Whoever brings a resource back, and whoever stands at the head, grants: the head takes what it
//! needs, is removed and woken, and so on down the line. The timer belongs to the head. It is armed for
//! the head's deadline or for the moment time itself brings what the head needs, and is handed on,
//! with the next waiter's waker, when the head leaves, so that nobody is woken only to learn that it
//! must go on waiting.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::clock::{self, Clock, Sleep};
use crate::sync::{Mutex, lock};

/// What the queue hands out. Called under the queue's lock; must not call back into the queue.
pub(crate) trait Resource {
    /// Takes `cost` for the waiter at the head, or says when time alone will have brought it
    /// (`None`: only when somebody gives some back).
    fn take(&self, cost: u32, now: Instant) -> Result<(), Option<Instant>>;
    /// Whether somebody waits. While it is set, newcomers must not take past the queue, and whoever
    /// gives something back must call [`WaitQueue::pump`].
    fn set_waiting(&self, waiting: bool);
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
pub(crate) enum Joined {
    /// The resource was taken on the spot.
    Granted,
    /// The caller waits its turn.
    Waiting(Place),
    /// The queue is full.
    Full,
}

pub(crate) struct WaitQueue {
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    /// Those who wait, by number, first come first. An entry is removed by being granted or by its own
    /// hand, so a waiter whose number is not here was granted. A map, not a ring with gaps: behind a
    /// head that waits for long any number may come and go.
    entries: BTreeMap<u64, Entry>,
    next: u64,
    peak: usize,
    /// The cost of all of them.
    cost: u64,
    timer: Option<Timer>,
}

struct Entry {
    cost: u32,
    deadline: Option<Instant>,
    state: Waiter,
}

enum Waiter {
    /// Not polled yet, or being polled: it looks for itself.
    New,
    Parked {
        waker: Waker,
        runtime: Option<tokio::runtime::Id>,
    },
}

/// A timer and the runtime that drives it. It is not handed to a waiter of another runtime, which may
/// outlive the first.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    runtime: Option<tokio::runtime::Id>,
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

impl WaitQueue {
    pub(crate) fn new() -> Self {
        Self { line: Mutex::new(Line::default()) }
    }

    /// Takes what is asked for, or a place at the end; `admits` can still refuse a place, knowing what
    /// is owed to those ahead.
    pub(crate) fn join(
        &self,
        resource: &impl Resource,
        Ask { cost, capacity, longest }: Ask,
        clock: &Clock,
        now: Instant,
        admits: impl FnOnce(u64) -> bool,
    ) -> Joined {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        // First announce, then look: whoever gives something back before the announcement is seen
        // by the look, whoever does so after it will pump.
        resource.set_waiting(true);
        let before = line.entries.len();
        let due = line.grant(resource, now, &mut wake);
        if line.entries.len() != before {
            line.hand_on(due, clock, now, false, &mut wake);
        }
        let joined = if line.entries.is_empty() && resource.take(cost, now).is_ok() {
            Joined::Granted
        } else if line.entries.len() >= capacity || !admits(line.cost) {
            Joined::Full
        } else {
            // Deadlines stay in the order of the line, so that the head's is always the first. Only
            // behind one that waits without a deadline, a deadline may be seen late.
            let last = line.entries.last_key_value().and_then(|(_, entry)| entry.deadline);
            let deadline =
                longest.map(|longest| clock::after(now, longest).max(last.unwrap_or(now)));
            let number = line.next;
            line.next += 1;
            line.entries.insert(number, Entry { cost, deadline, state: Waiter::New });
            line.peak = line.peak.max(line.entries.len());
            line.cost += u64::from(cost);
            Joined::Waiting(Place(number))
        };
        line.rest(resource);
        joined
    }

    /// Ready once the place is settled: granted, or `Err` with how long it was kept in vain.
    pub(crate) fn poll(
        &self,
        resource: &impl Resource,
        place: &Place,
        clock: &Clock,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TimedOut>> {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        let is_head = line.is_head(place);
        let Some(entry) = line.entries.get_mut(&place.0) else { return Poll::Ready(Ok(())) };
        if !is_head {
            entry.park(cx, &mut wake);
            return Poll::Pending;
        }
        // The head must not be woken by its own look.
        entry.unpark(&mut wake);
        let now = clock.now();
        let mut due = line.grant(resource, now, &mut wake);
        let settled = match line.entries.get_mut(&place.0) {
            None => Ok(()),
            Some(head) if head.deadline.is_some_and(|deadline| deadline <= now) => Err(TimedOut),
            Some(head) => {
                head.park(cx, &mut wake);
                line.hand_on(due, clock, now, true, &mut wake);
                return Poll::Pending;
            }
        };
        if settled.is_err() {
            line.remove(place, &mut wake);
            due = line.grant(resource, now, &mut wake);
        }
        line.hand_on(due, clock, now, false, &mut wake);
        line.rest(resource);
        Poll::Ready(settled)
    }

    /// Gives up a place. True if it had been granted meanwhile: the caller now owns the resource and
    /// must give it back.
    #[must_use]
    pub(crate) fn leave(&self, resource: &impl Resource, place: &Place, clock: &Clock) -> bool {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        let was_head = line.is_head(place);
        if !line.remove(place, &mut wake) {
            return true;
        }
        if was_head {
            let now = clock.now();
            let due = line.grant(resource, now, &mut wake);
            line.hand_on(due, clock, now, false, &mut wake);
        }
        line.rest(resource);
        false
    }

    /// Grants what can be granted: something was given back, or the terms changed.
    pub(crate) fn pump(&self, resource: &impl Resource, clock: &Clock) {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        let now = clock.now();
        let due = line.grant(resource, now, &mut wake);
        line.hand_on(due, clock, now, false, &mut wake);
        line.rest(resource);
    }

    /// How many wait, the most that ever did, and what those waiting will cost.
    pub(crate) fn gauges(&self) -> (usize, usize, u64) {
        let line = lock(&self.line);
        (line.entries.len(), line.peak, line.cost)
    }
}

/// A place was kept for its longest wait and nothing came.
#[derive(Debug)]
pub(crate) struct TimedOut;

impl Entry {
    fn park(&mut self, cx: &Context<'_>, wake: &mut Wake) {
        let runtime = tokio::runtime::Handle::try_current().ok().map(|handle| handle.id());
        match &mut self.state {
            Waiter::Parked { waker, runtime: at } if waker.will_wake(cx.waker()) => *at = runtime,
            _ => {
                self.unpark(wake);
                self.state = Waiter::Parked { waker: cx.waker().clone(), runtime };
            }
        }
    }

    fn unpark(&mut self, wake: &mut Wake) {
        if let Waiter::Parked { waker, .. } = std::mem::replace(&mut self.state, Waiter::New) {
            wake.forget.push(waker);
        }
    }
}

impl Line {
    fn is_head(&self, place: &Place) -> bool {
        self.entries.first_key_value().is_some_and(|(number, _)| *number == place.0)
    }

    /// Grants from the front while the resource lasts. Returns when the next head can be granted by
    /// time alone.
    fn grant(
        &mut self,
        resource: &impl Resource,
        now: Instant,
        wake: &mut Wake,
    ) -> Option<Instant> {
        while let Some(head) = self.entries.first_entry() {
            let cost = head.get().cost;
            if let Err(due) = resource.take(cost, now) {
                return due;
            }
            self.cost -= u64::from(cost);
            if let Waiter::Parked { waker, .. } = head.remove().state {
                wake.call.push(waker);
            }
        }
        None
    }

    /// False if the place was granted.
    fn remove(&mut self, place: &Place, wake: &mut Wake) -> bool {
        let Some(mut entry) = self.entries.remove(&place.0) else { return false };
        entry.unpark(wake);
        self.cost -= u64::from(entry.cost);
        true
    }

    /// Arms the timer for the head: for its deadline, or for `due` if that is sooner. `own` says that
    /// the head itself is asking.
    fn hand_on(
        &mut self,
        due: Option<Instant>,
        clock: &Clock,
        now: Instant,
        own: bool,
        wake: &mut Wake,
    ) {
        let head = self.entries.first_key_value().map(|(_, head)| head);
        let Some(Entry { deadline, state: Waiter::Parked { waker, runtime }, .. }) = head else {
            // Nobody, or a head that has yet to be polled and will then arm the timer itself.
            self.timer = None;
            return;
        };
        let at = match (*deadline, due) {
            (Some(deadline), Some(due)) => deadline.min(due),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => return self.timer = None,
        };
        if self.timer.as_ref().is_some_and(|timer| timer.runtime != *runtime) {
            self.timer = None;
        }
        let timer = match (&mut self.timer, own) {
            (Some(timer), _) => {
                timer.sleep.as_mut().reset(at);
                timer
            }
            (empty, true) => {
                empty.insert(Timer { sleep: Box::pin(clock.sleep_until(at)), runtime: *runtime })
            }
            // A timer can only be made inside the head's runtime, so the head must come.
            (None, false) => return wake.call.push(waker.clone()),
        };
        let mut cx = Context::from_waker(waker);
        if at <= now || timer.sleep.as_mut().poll(&mut cx).is_ready() {
            wake.call.push(waker.clone());
        }
    }

    /// Tells the resource when the last waiter is gone.
    fn rest(&mut self, resource: &impl Resource) {
        if self.entries.is_empty() {
            self.timer = None;
            resource.set_waiting(false);
        }
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waiting, peak, _) = self.gauges();
        f.debug_struct("WaitQueue").field("waiting", &waiting).field("peak", &peak).finish()
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "queue/tests.rs"]
#[expect(clippy::panic, reason = "test helpers")]
mod tests;
