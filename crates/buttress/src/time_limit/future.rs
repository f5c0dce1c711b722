use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;

use super::shared::Shared;
use super::state::Bound;
use crate::context;
use crate::machinery::ended::polled_after_completion;
use crate::machinery::own::{Counted, Own};
use crate::vocabulary::clock::{self, Sleep};
use crate::vocabulary::error::Error;
use crate::vocabulary::reject::Reject;

pin_project! {
    /// A future with a time limit. Dropping it drops the inner future.
    #[must_use = "futures do nothing unless polled"]
    pub struct Limited<F, O = Counted>
    where
        O: Own,
    {
        // `None` once it is over. At the deadline it is dropped before the timeout is reported.
        #[pin]
        future: Option<F>,
        // Made at the first `Pending`: a timer costs more than everything else here.
        #[pin]
        sleep: Option<Sleep>,
        started: Instant,
        // The limit, and from the first `Pending` on the deadline of the request if that comes first.
        bound: Bound,
        shared: O::Of<Shared>,
    }
}

impl<F, O: Own> Limited<F, O> {
    #[inline(always)]
    pub(super) fn new(future: F, started: Instant, bound: Bound, shared: O::Of<Shared>) -> Self {
        Self { future: Some(future), sleep: None, started, bound, shared }
    }

    /// Polls the deadline, and drops the inner future once it has passed.
    #[inline(always)]
    fn poll_deadline(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Error> {
        let mut this = self.project();
        if this.sleep.is_none() {
            // Read here and not in `call`: a call whose answer is ready needs no deadline.
            if let Some(deadline) = context::deadline() {
                *this.bound = this.bound.and_deadline(*this.started, deadline);
            }
            let limit = this.bound.duration();
            // A timer may fire late by the resolution of its clock. A limit of zero must not.
            if !limit.is_zero() {
                let deadline = clock::after(*this.started, limit);
                this.sleep.set(Some(this.shared.common.clock.sleep_until(deadline)));
            }
        }
        if let Some(sleep) = this.sleep.as_mut().as_pin_mut() {
            ready!(sleep.poll(cx));
        }
        this.future.set(None);
        Poll::Ready(this.shared.timed_out(*this.bound))
    }
}

impl<F: Future, O: Own> Future for Limited<F, O> {
    type Output = Result<F::Output, Error>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // The inner future is polled first, so that an answer that is ready at the deadline wins.
        let Some(future) = self.as_mut().project().future.as_pin_mut() else {
            polled_after_completion("time_limit::Limited")
        };
        match future.poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll_deadline(cx).map(Err),
        }
    }
}

impl<F, O: Own> fmt::Debug for Limited<F, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("limit", &self.bound.duration()).finish_non_exhaustive()
    }
}

pin_project! {
    /// The response of a [`TimeLimit`](super::TimeLimit). Dropping it cancels the call.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, R, O = Counted>
    where
        O: Own,
    {
        #[pin]
        limited: Limited<F, O>,
        reject: R,
    }
}

impl<F, R, O: Own> ResponseFuture<F, R, O> {
    #[inline(always)]
    pub(super) fn new(limited: Limited<F, O>, reject: R) -> Self {
        Self { limited, reject }
    }
}

impl<F, R, O, Res, E> Future for ResponseFuture<F, R, O>
where
    F: Future<Output = Result<Res, E>>,
    R: Reject<Res, E>,
    O: Own,
{
    type Output = Result<Res, E>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let limited = ready!(this.limited.poll(cx));
        Poll::Ready(limited.unwrap_or_else(|error| this.reject.reject(error)))
    }
}
