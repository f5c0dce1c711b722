//! A call that waits for a limiter.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::clock::Sleep;
use crate::error::Error;
use crate::observe::Common;
use crate::queue::{Ask, InVain, Joined, Looked, Place, Resource, WaitQueue};

/// A limiter with a queue.
pub(crate) trait Limiter: Sized {
    /// What admits one call: a guard that gives back what it holds.
    type Pass;
    type Resource: Resource;

    fn resource(&self) -> &Self::Resource;
    fn queue(&self) -> &WaitQueue<Self::Resource>;
    fn common(&self) -> &Common;
    /// The guard of what was taken from the resource.
    fn pass(self: &Arc<Self>, cost: u32, receipt: Receipt<Self>) -> Self::Pass;
    /// Counts and tells that waiting for `cost` was in vain.
    fn waited_in_vain(&self, cost: u32, why: InVain) -> Error;
}

type Receipt<L> = <<L as Limiter>::Resource as Resource>::Receipt;

/// Serves those who wait: something was given back, or the terms changed.
pub(crate) fn settle<L: Limiter>(limiter: &L) {
    limiter.queue().settle(limiter.resource(), limiter.common().clock.now());
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
        admits: impl FnOnce(Instant, u64) -> bool,
    ) -> Option<Self> {
        let now = limiter.common().clock.now();
        match limiter.queue().join(limiter.resource(), ask, now, |ahead| admits(now, ahead)) {
            Joined::Granted(receipt) => Some(Self::Done(limiter.pass(ask.cost, receipt))),
            Joined::Waiting(place) => {
                let (place, limiter) = (Some(place), limiter.clone());
                Some(Self::Queued(QueuePlace { place, cost: ask.cost, timer: None, limiter }))
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
    /// When to look again, made when that is known.
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    limiter: Arc<L>,
}

impl<L: Limiter> QueuePlace<L> {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<L::Pass, Error>> {
        loop {
            let Some(place) = &self.place else { return Poll::Pending };
            let limiter = &self.limiter;
            let now = limiter.common().clock.now();
            match limiter.queue().poll(limiter.resource(), place, now, cx) {
                Looked::Settled(settled) => {
                    self.place = None;
                    self.timer = None;
                    return Poll::Ready(match settled {
                        Ok(receipt) => Ok(limiter.pass(self.cost, receipt)),
                        Err(why) => Err(limiter.waited_in_vain(self.cost, why)),
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
        let clock = &self.limiter.common().clock;
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
            let now = limiter.common().clock.now();
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
