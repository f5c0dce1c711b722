//! Calls that wait for a limiter.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::machinery::ended::polled_after_completion;
use crate::machinery::limited::Held;
use crate::machinery::queue::{Ask, Joined, Looked, NotGranted, Place, Resource, WaitQueue};
use crate::vocabulary::clock::{Clock, Sleep};
use crate::vocabulary::error::Error;

/// A limiter with a queue, as its services in the queued and the backpressure mode use it.
pub trait Limiter: Sized {
    /// The right to make one call. Dropping it returns the right.
    type Pass;
    /// The permit or tokens of a call, from its beginning to its end.
    type Held: Held;
    type Resource: Resource;

    fn resource(&self) -> &Self::Resource;
    fn queue(&self) -> &WaitQueue<Self::Resource>;
    fn clock(&self) -> &Clock;
    /// Returns the guard of a taken resource.
    fn pass(self: &Arc<Self>, cost: u32, receipt: Receipt<Self>) -> Self::Pass;
    /// Begins the call of a pass.
    fn begin(pass: Self::Pass) -> Self::Held;
    /// Counts and reports a wait for `cost` that ended without the resource. The place was kept for `longest`.
    fn wait_failed(&self, cost: u32, why: NotGranted, longest: Option<Duration>) -> Error;

    /// Returns the forecast for a call that may wait.
    fn outlook(&self) -> Outlook;
    /// Takes `cost`, or a place in the configured queue.
    ///
    /// # Errors
    /// Returns the refusal. It has been counted and reported.
    fn take_or_wait(self: &Arc<Self>, cost: u32) -> Result<Waiting<Self>, Error>;
    /// Takes the resource of one call, or a place that is kept for an unlimited time.
    ///
    /// # Errors
    /// Returns the refusal. It has been counted and reported.
    fn take_or_park(self: &Arc<Self>) -> Result<Waiting<Self>, Error>;
    /// Takes the resource of one call, and begins the call.
    ///
    /// # Errors
    /// Returns the refusal. It has been counted and reported.
    fn take(self: &Arc<Self>) -> Result<Self::Held, Error>;
    /// Returns the refusal that `outlook` forecast, with the current times, after it has counted
    /// and reported it.
    fn refuse_as_foreseen(&self, cost: u32) -> Error;
}

type Receipt<L> = <<L as Limiter>::Resource as Resource>::Receipt;

/// The forecast for a call that may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outlook {
    Admitted,
    Waits,
    Refused,
}

/// Serves the waiters after a resource was returned or the rules changed.
pub(crate) fn settle<L: Limiter>(limiter: &L) {
    limiter.queue().settle(limiter.resource(), limiter.clock().now());
}

/// The answer of a limiter that admitted a call, or queued it.
pub enum Waiting<L: Limiter> {
    Done(L::Pass),
    Queued(QueuePlace<L>),
}

impl<L: Limiter> Waiting<L> {
    /// Takes a place in the queue, or a pass if one is available by now. `None` if there is no
    /// room.
    pub(crate) fn join(
        limiter: &Arc<L>,
        ask: Ask,
        admits: impl FnOnce(Instant, u64) -> bool,
    ) -> Option<Self> {
        let now = limiter.clock().now();
        match limiter.queue().join(limiter.resource(), ask, now, |ahead| admits(now, ahead)) {
            Joined::Granted(receipt) => Some(Self::Done(limiter.pass(ask.cost, receipt))),
            Joined::Waiting(place) => {
                let (place, limiter) = (Some(place), limiter.clone());
                let Ask { cost, longest, .. } = ask;
                Some(Self::Queued(QueuePlace { place, cost, longest, timer: None, limiter }))
            }
            Joined::Full => None,
        }
    }
}

impl<L: Limiter> fmt::Debug for Waiting<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(_) => f.write_str("Done"),
            Self::Queued(place) => f.debug_tuple("Queued").field(place).finish(),
        }
    }
}

/// A place in the queue of a limiter. Dropping it leaves the queue. It returns a resource that was
/// just granted.
pub struct QueuePlace<L: Limiter> {
    /// `None` once settled.
    place: Option<Place>,
    cost: u32,
    /// How long the place is kept.
    longest: Option<Duration>,
    /// The time of the next poll, with its timer. Made once the time is known.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    limiter: Arc<L>,
}

impl<L: Limiter> QueuePlace<L> {
    /// Polls the place for its pass.
    ///
    /// # Panics
    /// If it is polled after it was settled.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<L::Pass, Error>> {
        loop {
            let Some(place) = &self.place else { polled_after_completion("QueuePlace") };
            let limiter = &self.limiter;
            let now = limiter.clock().now();
            match limiter.queue().poll(limiter.resource(), place, now, cx) {
                Looked::Settled(settled) => {
                    self.place = None;
                    self.timer = None;
                    return Poll::Ready(match settled {
                        Ok(receipt) => Ok(limiter.pass(self.cost, receipt)),
                        Err(why) => Err(limiter.wait_failed(self.cost, why, self.longest)),
                    });
                }
                Looked::Again(None) => return Poll::Pending,
                Looked::Again(Some(at)) => {
                    if self.poll_timer(at, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn poll_timer(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.limiter.clock();
        match &mut self.timer {
            Some((set, timer)) => {
                if *set != at {
                    timer.as_mut().reset(at);
                    *set = at;
                }
                timer.as_mut().poll(cx)
            }
            empty => {
                let (_, timer) = empty.insert((at, Box::pin(clock.sleep_until(at))));
                timer.as_mut().poll(cx)
            }
        }
    }
}

impl<L: Limiter> Drop for QueuePlace<L> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let limiter = &self.limiter;
            let now = limiter.clock().now();
            let granted = limiter.queue().leave(limiter.resource(), &place, now);
            drop(granted.map(|receipt| limiter.pass(self.cost, receipt)));
        }
    }
}

impl<L: Limiter> fmt::Debug for QueuePlace<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePlace").field("place", &self.place).finish_non_exhaustive()
    }
}
