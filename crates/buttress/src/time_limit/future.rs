use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::shared::Shared;
use crate::clock::Sleep;
use crate::error::Error;
use crate::reject::Reject;

pin_project! {
    /// A future under a time limit. Dropping it drops the future.
    #[must_use = "futures do nothing unless polled"]
    pub struct Limited<F> {
        // `None` once it is over: at the deadline it is dropped before anybody hears of it.
        #[pin]
        future: Option<F>,
        // Made at the first `Pending`: a timer costs more than everything else here.
        #[pin]
        sleep: Option<Sleep>,
        deadline: Instant,
        limit: Duration,
        shared: Arc<Shared>,
    }
}

impl<F> Limited<F> {
    pub(super) fn new(future: F, deadline: Instant, limit: Duration, shared: Arc<Shared>) -> Self {
        Self { future: Some(future), sleep: None, deadline, limit, shared }
    }
}

impl<F: Future> Future for Limited<F> {
    type Output = Result<F::Output, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // The future comes first, so that an answer that is there at the deadline wins.
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Pending };
        if let Poll::Ready(output) = future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        // A timer may be late by the grain of its clock; no time at all is not.
        if this.sleep.is_none() && !this.limit.is_zero() {
            let clock = &this.shared.common.clock;
            this.sleep.set(Some(clock.sleep_until(*this.deadline)));
        }
        if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
            ready!(sleep.poll(cx));
        }
        this.future.set(None);
        Poll::Ready(Err(this.shared.timed_out(*this.limit)))
    }
}

impl<F> fmt::Debug for Limited<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("limit", &self.limit).finish_non_exhaustive()
    }
}

pin_project! {
    /// The response of a [`TimeLimit`](super::TimeLimit). Dropping it cancels the call.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, R> {
        #[pin]
        limited: Limited<F>,
        reject: R,
    }
}

impl<F, R> ResponseFuture<F, R> {
    pub(super) fn new(limited: Limited<F>, reject: R) -> Self {
        Self { limited, reject }
    }
}

impl<F, R, Res, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Res, E>>,
    R: Reject<Res, E>,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let limited = ready!(this.limited.poll(cx));
        Poll::Ready(limited.unwrap_or_else(|error| this.reject.reject(error)))
    }
}
