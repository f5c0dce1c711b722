//! A call that waits for a limiter.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::error::Error;
use crate::observe::Common;
use crate::queue::{Ask, InVain, Joined, Place, Resource, WaitQueue, With};

/// A limiter with a queue.
pub(crate) trait Limiter: Sized + Send + Sync + 'static {
    /// What admits one call: a guard that gives back what it holds.
    type Pass;
    type Resource: Resource;

    fn resource(&self) -> &Self::Resource;
    fn line(&self) -> &Line<Self>;
    fn common(&self) -> &Common;
    /// The guard of what was taken from the resource.
    fn pass(self: &Arc<Self>, cost: u32, receipt: Receipt<Self>) -> Self::Pass;
    /// Counts and tells that waiting for `cost` was in vain.
    fn waited_in_vain(&self, cost: u32, why: InVain) -> Error;
}

type Receipt<L> = <<L as Limiter>::Resource as Resource>::Receipt;

/// The queue of a limiter, and what settles it when its timer fires.
pub(crate) struct Line<L: Limiter> {
    queue: WaitQueue<L::Resource>,
    settler: OnceLock<Waker>,
}

struct Settler<L: Limiter>(Weak<L>);

impl<L: Limiter> Wake for Settler<L> {
    fn wake(self: Arc<Self>) {
        if let Some(limiter) = self.0.upgrade() {
            settle(&limiter);
        }
    }
}

impl<L: Limiter> Line<L> {
    pub(crate) fn new() -> Self {
        Self { queue: WaitQueue::new(), settler: OnceLock::new() }
    }

    /// How many wait, the most that ever did, and what those waiting will cost.
    pub(crate) fn gauges(&self) -> (usize, usize, u64) {
        self.queue.gauges()
    }
}

fn with<L: Limiter>(limiter: &Arc<L>) -> With<'_, L::Resource> {
    let line = limiter.line();
    let settler = || Waker::from(Arc::new(Settler(Arc::downgrade(limiter))));
    With {
        resource: limiter.resource(),
        clock: &limiter.common().clock,
        settler: line.settler.get_or_init(settler),
    }
}

/// Serves those who wait: something was given back, or the terms changed.
pub(crate) fn settle<L: Limiter>(limiter: &Arc<L>) {
    limiter.line().queue.settle(with(limiter));
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
        match limiter.line().queue.join(with(limiter), ask, admits) {
            Joined::Granted(receipt) => Some(Self::Done(limiter.pass(ask.cost, receipt))),
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
        limiter.line().queue.poll(with(limiter), place, cx).map(|settled| {
            self.place = None;
            match settled {
                Ok(receipt) => Ok(limiter.pass(self.cost, receipt)),
                Err(why) => Err(limiter.waited_in_vain(self.cost, why)),
            }
        })
    }
}

impl<L: Limiter> Drop for QueuePlace<L> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let limiter = &self.limiter;
            let granted = limiter.line().queue.leave(with(limiter), &place);
            drop(granted.map(|receipt| limiter.pass(self.cost, receipt)));
        }
    }
}

impl<L: Limiter> fmt::Debug for QueuePlace<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePlace").field("place", &self.place).finish_non_exhaustive()
    }
}

impl<L: Limiter> fmt::Debug for Line<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.queue.fmt(f)
    }
}
