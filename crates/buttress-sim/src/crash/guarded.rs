use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::points::CrashPoints;
use crate::ended::polled_after_completion;

/// A future that ends with its process. Made by [`CrashPoints::guard`].
///
/// # Cancel safety
/// Dropping it drops the future.
#[must_use = "futures do nothing unless polled"]
pub struct Guarded<F> {
    points: CrashPoints,
    id: u64,
    /// `None` after the end.
    future: Option<Pin<Box<F>>>,
}

impl<F> Guarded<F> {
    pub(super) fn new(points: CrashPoints, id: u64, future: F) -> Self {
        Self { points, id, future: Some(Box::pin(future)) }
    }

    fn die(&mut self, forget: bool) {
        let future = self.future.take();
        if forget {
            std::mem::forget(future);
        }
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(forget) = this.points.park(this.id, Some(cx.waker())) {
            this.die(forget);
            return Poll::Ready(None);
        }
        let Some(future) = &mut this.future else { polled_after_completion("Guarded") };
        let polled = future.as_mut().poll(cx);
        // The process crashed in this poll, so its result is lost.
        if let Some(forget) = this.points.park(this.id, None) {
            this.die(forget);
            return Poll::Ready(None);
        }
        polled.map(|output| {
            this.future = None;
            Some(output)
        })
    }
}

impl<F> Drop for Guarded<F> {
    fn drop(&mut self) {
        self.points.unpark(self.id);
    }
}

impl<F> fmt::Debug for Guarded<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("points", &self.points).finish_non_exhaustive()
    }
}
