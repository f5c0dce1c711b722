//! A call that waits for a limiter.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::Error;
use crate::observe::Common;
use crate::queue::{Ask, Joined, Place, Resource, WaitQueue};

/// A limiter with a queue.
pub(crate) trait Limiter {
    /// What admits one call: a guard that gives back what it holds.
    type Pass;
    type Resource: Resource;

    fn resource(&self) -> &Self::Resource;
    fn queue(&self) -> &WaitQueue;
    fn common(&self) -> &Common;
    /// The guard of what was taken from the resource.
    fn pass(self: &Arc<Self>, cost: u32) -> Self::Pass;
    /// Counts and tells that a place was kept for its longest wait in vain.
    fn timed_out(&self) -> Error;
}

/// How asking a limiter went, if it did not refuse.
pub(crate) enum Waiting<L: Limiter> {
    Done(L::Pass),
    Queued(QueuePlace<L>),
}

impl<L: Limiter> Waiting<L> {
    /// Takes a place in the queue, or a pass if one is there by now; `None` if there is no room.
    pub(crate) fn join(
        limiter: &Arc<L>,
        ask: Ask,
        admits: impl FnOnce(std::time::Instant, u64) -> bool,
    ) -> Option<Self> {
        let clock = &limiter.common().clock;
        let now = clock.now();
        let admits = |ahead| admits(now, ahead);
        match limiter.queue().join(limiter.resource(), ask, clock, now, admits) {
            Joined::Granted => Some(Self::Done(limiter.pass(ask.cost))),
            Joined::Waiting(place) => {
                let (place, limiter) = (Some(place), limiter.clone());
                Some(Self::Queued(QueuePlace { place, cost: ask.cost, limiter }))
            }
            Joined::Full => None,
        }
    }

    /// For `poll_ready`: goes on with what is reserved, or asks first. `None` where asking is refused.
    pub(crate) fn poll_reserved(
        reserved: &mut Option<Self>,
        ask: impl FnOnce() -> Result<Self, Error>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<L::Pass>> {
        let mut place = match reserved.take().map_or_else(ask, Ok) {
            Ok(Self::Done(pass)) => return Poll::Ready(Some(pass)),
            Ok(Self::Queued(place)) => place,
            Err(_) => return Poll::Ready(None),
        };
        let settled = place.poll(cx);
        if settled.is_pending() {
            *reserved = Some(Self::Queued(place));
        }
        settled.map(Result::ok)
    }
}

/// A place in the queue of a limiter. Dropping it leaves the queue, or gives back what had just been
/// granted.
pub(crate) struct QueuePlace<L: Limiter> {
    /// `None` once settled.
    place: Option<Place>,
    cost: u32,
    limiter: Arc<L>,
}

impl<L: Limiter> QueuePlace<L> {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<L::Pass, Error>> {
        let Some(place) = &self.place else { return Poll::Pending };
        let limiter = &self.limiter;
        let clock = &limiter.common().clock;
        let settled = limiter.queue().poll(limiter.resource(), place, clock, cx);
        settled.map(|settled| {
            self.place = None;
            match settled {
                Ok(()) => Ok(limiter.pass(self.cost)),
                Err(_) => Err(limiter.timed_out()),
            }
        })
    }
}

impl<L: Limiter> Drop for QueuePlace<L> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let limiter = &self.limiter;
            if limiter.queue().leave(limiter.resource(), &place, &limiter.common().clock) {
                drop(limiter.pass(self.cost));
            }
        }
    }
}

impl<L: Limiter> fmt::Debug for QueuePlace<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePlace").field("place", &self.place).finish_non_exhaustive()
    }
}
