//! A bounded FIFO queue of waiters, for every pattern that can wait.
//!
//! A call that returns a resource settles the queue, and so does a waiter that polls. Settling
//! grants the resource to the waiters at the head that can have it, and wakes exactly these. Each
//! waiter has its own timer, so no waiter depends on the task, thread or runtime of another. No
//! timer is touched under the queue's lock, because tokio may wake the task that waits on a timer
//! inside the call.
//!
//! A timer is late by up to its resolution, and a task may be late by more. Resources that time
//! brought meanwhile are not lost: the queue is settled as if every waiter had polled at its exact
//! moment.
//!
//! A grant with a *claim time* is kept for that long. A waiter that is not polled within it is set
//! *aside*. The grant then goes to the next waiter. The waiter that was set aside is the first
//! again once it is polled.

mod places;
mod state;

use std::fmt;
use std::task::Context;
use std::time::{Duration, Instant};

use crate::sync::{Mutex, lock};
use crate::vocabulary::clock;

use state::{State, Wake};

/// The resource of a queue. Called under the queue's lock, so it must not call the queue.
pub trait Resource {
    /// The record of a take, with which a guard returns the resource.
    type Receipt: fmt::Debug;
    /// `true` if time alone brings the resource.
    const COMES_WITH_TIME: bool;
    /// Takes `cost` for the waiter at the head, as of the first moment from `since` to `until` at
    /// which there was enough.
    ///
    /// # Errors
    /// Returns the reason why there was not enough.
    fn take(&self, cost: u32, since: Instant, until: Instant) -> Result<Self::Receipt, Lack>;
    /// Returns a taken resource that was not used.
    fn give_back(&self, cost: u32, receipt: Self::Receipt, now: Instant);
    /// Returns when time alone will have brought `cost`, after other calls have taken `ahead`.
    /// `None` if time does not bring it.
    fn due(&self, ahead: u64, cost: u32, now: Instant) -> Option<Instant>;
    /// Sets the waiting mark: a waiter is in the queue, or resources are left over from the last
    /// waiters. While the mark is set, a newcomer must ask the queue, and a call that returns a resource must settle the
    /// queue.
    fn set_waiting(&self, waiting: bool);
}

/// The reason why the head cannot have its resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lack {
    /// Time, or a call that returns a resource, must bring it.
    Now,
    /// The cost is more than there can ever be.
    Never,
}

/// A place in the queue. The owner passes it to [`WaitQueue::leave`] unless [`WaitQueue::poll`]
/// settled it.
#[derive(Debug)]
pub(crate) struct Place(u64);

/// The request of a newcomer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub cost: u32,
    /// The most waiters that there may be, this one included.
    pub capacity: usize,
    /// How long the place is kept. `None` for an unlimited time.
    pub longest: Option<Duration>,
    /// How long a grant is kept for a waiter that is not polled. `None` for an unlimited time.
    pub claim: Option<Duration>,
}

/// The result of joining the queue.
#[derive(Debug)]
pub(crate) enum Joined<T> {
    /// The resource was taken immediately.
    Granted(T),
    /// The caller waits in the queue.
    Waiting(Place),
    /// The queue is full.
    Full,
}

/// The reason why a wait ended without the resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotGranted {
    /// The longest wait is over.
    TimedOut,
    /// The cost is more than there can ever be now.
    Never,
}

/// The result of polling a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Looked<T> {
    Settled(Result<T, NotGranted>),
    /// The waiter must wait for a wake, and poll again at this time.
    Again(Option<Instant>),
}

pub struct WaitQueue<R: Resource> {
    state: Mutex<State<R::Receipt>>,
}

impl<R: Resource> WaitQueue<R> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State::new()) }
    }

    /// Takes the resource, or a place at the end. `admits` gets the cost of the waiters ahead, and
    /// can still refuse a place.
    pub(crate) fn join(
        &self,
        resource: &R,
        Ask { cost, capacity, longest, claim }: Ask,
        now: Instant,
        admits: impl FnOnce(u64) -> bool,
    ) -> Joined<R::Receipt> {
        let mut wake = Wake::default();
        let mut state = lock(&self.state);
        // Set the flag first, then check. The check sees resources that were returned before the
        // flag was set. A call that returns a resource afterwards settles the queue.
        resource.set_waiting(true);
        state.settle(resource, now, &mut wake);
        let joined = if let Some(receipt) = state.take_now(resource, cost, now) {
            Joined::Granted(receipt)
        } else if state.places.len() >= capacity || !admits(state.places.owed()) {
            Joined::Full
        } else {
            let deadline = longest.map(|longest| clock::after(now, longest));
            Joined::Waiting(Place(state.places.enter(cost, deadline, claim)))
        };
        state.rest(resource);
        joined
    }

    /// Checks whether the place is settled.
    pub(crate) fn poll(
        &self,
        resource: &R,
        Place(number): &Place,
        now: Instant,
        cx: &Context<'_>,
    ) -> Looked<R::Receipt> {
        let mut wake = Wake::default();
        let mut state = lock(&self.state);
        if state.places.come_back(*number) {
            // The waiter waits again: set the flag first, then check, as in `join`.
            resource.set_waiting(true);
        }
        if state.hush(*number, &mut wake) {
            state.settle(resource, now, &mut wake);
            if let Some(again) = state.look_again(*number, resource, now, cx) {
                state.rest(resource);
                return Looked::Again(again);
            }
            state.time_out(*number, resource, now, &mut wake);
            state.rest(resource);
        }
        match state.claim(*number) {
            Some(settled) => Looked::Settled(settled),
            None => {
                debug_assert!(false, "a place that neither waits nor is settled");
                // Fail closed: an unaccounted place is not admitted.
                Looked::Settled(Err(NotGranted::Never))
            }
        }
    }

    /// Leaves the queue. The caller must return a resource that was granted meanwhile.
    #[must_use]
    pub(crate) fn leave(&self, resource: &R, place: &Place, now: Instant) -> Option<R::Receipt> {
        let mut wake = Wake::default();
        let mut state = lock(&self.state);
        if let Some(settled) = state.claim(place.0) {
            return settled.ok();
        }
        state.forget(place.0, &mut wake);
        // The next waiter may need less, or its turn is sooner.
        state.settle(resource, now, &mut wake);
        state.rest(resource);
        None
    }

    /// Settles the queue after a resource was returned or the rules changed.
    pub(crate) fn settle(&self, resource: &R, now: Instant) {
        let mut wake = Wake::default();
        let mut state = lock(&self.state);
        state.settle(resource, now, &mut wake);
        state.rest(resource);
    }

    /// Returns `true` if no waiter is in the queue.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.state).places.is_empty()
    }

    pub(crate) fn gauges(&self) -> Gauges {
        let state = lock(&self.state);
        let (waiting, peak, owed) = (state.places.len(), state.places.peak(), state.places.owed());
        Gauges { waiting, peak, owed }
    }
}

/// The numbers of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gauges {
    /// How many calls wait now.
    pub waiting: usize,
    /// The most calls that ever waited at the same time.
    pub peak: usize,
    /// The cost of all waiters in the queue.
    pub owed: u64,
}

impl<R: Resource> fmt::Debug for WaitQueue<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gauges { waiting, peak, .. } = self.gauges();
        f.debug_struct("WaitQueue").field("waiting", &waiting).field("peak", &peak).finish()
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "queue/tests.rs"]
mod tests;

#[cfg(all(test, buttress_loom))]
#[path = "queue/loom_tests.rs"]
mod loom_tests;
