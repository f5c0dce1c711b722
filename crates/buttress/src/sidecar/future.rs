use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::attempt::Stop;
use super::handle::{Counter, Request};
use crate::machinery::ended::polled_after_completion;
use crate::vocabulary::classify::{Classify, Outcome};
use crate::vocabulary::reject::Reject;

pin_project! {
    /// The response of a [`Sidecar`](super::Sidecar). Dropping it cancels the request, which then
    /// counts as abandoned.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, C, R> {
        // Before the request, so that it is dropped first. `None` once it has ended: the request
        // then holds no place in the circuit.
        #[pin]
        future: Option<F>,
        request: Request,
        classify: C,
        reject: R,
    }
}

impl<F, C, R> ResponseFuture<F, C, R> {
    pub(super) fn new(future: F, request: Request, classify: C, reject: R) -> Self {
        Self { future: Some(future), request, classify, reject }
    }
}

impl<F, C, R, Res, E> Future for ResponseFuture<F, C, R>
where
    F: Future<Output = Result<Result<Res, E>, Stop<E>>>,
    C: Classify<Res, E>,
    R: Reject<Res, E>,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            polled_after_completion("sidecar::ResponseFuture")
        };
        let (end, result) = match ready!(future.poll(cx)) {
            Ok(answer) => {
                let end = match this.classify.classify(&answer) {
                    Outcome::Success => Counter::Succeeded,
                    Outcome::Failure => Counter::Failed,
                    Outcome::Ignored => Counter::Ignored,
                };
                (end, answer)
            }
            Err(Stop::Unready(error)) => (Counter::Failed, Err(error)),
            Err(Stop::Refused(error)) => (Counter::of(&error), this.reject.reject(error)),
        };
        this.request.end(end);
        this.future.set(None);
        Poll::Ready(result)
    }
}

impl<F, C, R> fmt::Debug for ResponseFuture<F, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("request", &self.request).finish_non_exhaustive()
    }
}
