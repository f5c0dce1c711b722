//! A bounded FIFO queue of waiters, shared by every pattern that can wait.
//!
//! A call that returns a resource, and a waiter that looks for itself, settles the line: the waiters at
//! the head that can have what they need get it, and exactly these are woken. Each waiter has its own
//! timer, so no waiter depends on the task, thread or runtime of another. No timer is touched under the
//! queue's lock, because tokio may wake the task that waits on a timer inside the call.
//!
//! A timer is late by up to its grain, and a task may be late by more. What time brought meanwhile is
//! not lost: the line is settled as if every waiter had come at its exact moment.
//!
//! A grant with a *claim time* is kept for that long. A waiter that is not polled within it is set
//! *aside*: the grant goes to the next waiter, and the one set aside is the first again once it is polled.

mod line;
mod places;

use std::fmt;
use std::task::Context;
use std::time::{Duration, Instant};

use crate::sync::{Mutex, lock};
use crate::vocabulary::clock;

use line::{Line, Wake};

/// What the queue hands out. Called under the queue's lock; must not call back into the queue.
pub trait Resource {
    /// What a guard needs to return what was taken.
    type Receipt: fmt::Debug;
    /// Whether time alone brings what is handed out.
    const COMES_WITH_TIME: bool;
    /// Takes `cost` for the waiter at the head, as of the first moment from `since` to `until` at which
    /// there was enough.
    ///
    /// # Errors
    /// Why there was not enough.
    fn take(&self, cost: u32, since: Instant, until: Instant) -> Result<Self::Receipt, Lack>;
    /// Returns what was taken and not used.
    fn give_back(&self, cost: u32, receipt: Self::Receipt, now: Instant);
    /// When time alone will have brought `cost` after `ahead` was taken by others, if it will.
    fn due(&self, ahead: u64, cost: u32, now: Instant) -> Option<Instant>;
    /// Sets whether a waiter is in line, or the last ones left something to spare. While it is set, a
    /// newcomer must ask the queue, and a call that returns something must settle it.
    fn set_waiting(&self, waiting: bool);
}

/// Why the head cannot have what it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lack {
    /// Time, or a call that returns some, must bring it.
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
    /// How long a grant is kept for a waiter that is not polled; `None` for as long as it takes.
    pub(crate) claim: Option<Duration>,
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
pub enum InVain {
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

pub struct WaitQueue<R: Resource> {
    line: Mutex<Line<R::Receipt>>,
}

impl<R: Resource> WaitQueue<R> {
    pub(crate) fn new() -> Self {
        Self { line: Mutex::new(Line::new()) }
    }

    /// Takes what is asked for, or a place at the end. `admits` can still refuse a place, knowing what
    /// is owed to the waiters ahead.
    pub(crate) fn join(
        &self,
        resource: &R,
        Ask { cost, capacity, longest, claim }: Ask,
        now: Instant,
        admits: impl FnOnce(u64) -> bool,
    ) -> Joined<R::Receipt> {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        // First announce, then look. A call that returns something before the announcement is seen by
        // the look; a call that returns something after it settles.
        resource.set_waiting(true);
        line.settle(resource, now, &mut wake);
        let joined = if let Some(receipt) = line.take_now(resource, cost, now) {
            Joined::Granted(receipt)
        } else if line.places.len() >= capacity || !admits(line.places.owed()) {
            Joined::Full
        } else {
            let deadline = longest.map(|longest| clock::after(now, longest));
            Joined::Waiting(Place(line.places.enter(cost, deadline, claim)))
        };
        line.rest(resource);
        joined
    }

    /// Looks whether the place is settled.
    pub(crate) fn poll(
        &self,
        resource: &R,
        Place(number): &Place,
        now: Instant,
        cx: &Context<'_>,
    ) -> Looked<R::Receipt> {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        if line.places.come_back(*number) {
            // It waits again: announce, then look, as in `join`.
            resource.set_waiting(true);
        }
        if line.hush(*number, &mut wake) {
            line.settle(resource, now, &mut wake);
            if let Some(again) = line.look_again(*number, resource, now, cx) {
                line.rest(resource);
                return Looked::Again(again);
            }
            line.time_out(*number, resource, now, &mut wake);
            line.rest(resource);
        }
        match line.claim(*number) {
            Some(settled) => Looked::Settled(settled),
            None => {
                debug_assert!(false, "a place that neither waits nor is settled");
                // Closed: what cannot be accounted for is not admitted.
                Looked::Settled(Err(InVain::Never))
            }
        }
    }

    /// Gives up a place. The caller must return what had been granted meanwhile.
    #[must_use]
    pub(crate) fn leave(&self, resource: &R, place: &Place, now: Instant) -> Option<R::Receipt> {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        if let Some(settled) = line.claim(place.0) {
            return settled.ok();
        }
        line.forget(place.0, &mut wake);
        // The next waiter may need less, or comes sooner.
        line.settle(resource, now, &mut wake);
        line.rest(resource);
        None
    }

    /// Settles the line: something was returned, or the terms changed.
    pub(crate) fn settle(&self, resource: &R, now: Instant) {
        let mut wake = Wake::default();
        let mut line = lock(&self.line);
        line.settle(resource, now, &mut wake);
        line.rest(resource);
    }

    /// Returns `true` if nobody is in line.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.line).places.is_empty()
    }

    pub(crate) fn gauges(&self) -> Gauges {
        let line = lock(&self.line);
        let (waiting, peak, owed) = (line.places.len(), line.places.peak(), line.places.owed());
        Gauges { waiting, peak, owed }
    }
}

/// The numbers of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gauges {
    /// How many wait now.
    pub(crate) waiting: usize,
    /// The most that ever waited at once.
    pub(crate) peak: usize,
    /// The cost of all waiters in line.
    pub(crate) owed: u64,
}

impl<R: Resource> fmt::Debug for WaitQueue<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gauges { waiting, peak, .. } = self.gauges();
        f.debug_struct("WaitQueue").field("waiting", &waiting).field("peak", &peak).finish()
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "queue/tests.rs"]
#[expect(clippy::panic, reason = "test helpers")]
mod tests;

#[cfg(all(test, buttress_loom))]
#[path = "queue/loom_tests.rs"]
mod loom_tests;
