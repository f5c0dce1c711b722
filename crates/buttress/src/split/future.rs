use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use super::fall_back::{FallsBack, Kept};
use super::shared::Shared;
use crate::machinery::oneshot::Oneshot;

pin_project! {
    /// The response of a [`Split`](super::Split). Dropping it cancels the call.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, N, Req, F>
    where
        S: Service<Req>,
        N: Service<Req>,
    {
        #[pin]
        call: Call<S, N, Req>,
        // `None` without a fallback, and once it was used.
        spare: Option<Spare<S, Req, F>>,
    }
}

pin_project! {
    #[project = CallProj]
    enum Call<S, N, Req>
    where
        S: Service<Req>,
        N: Service<Req>,
    {
        Old { #[pin] call: Oneshot<S, Req> },
        New { #[pin] call: Oneshot<N, Req> },
    }
}

/// The parts that a fallback needs.
pub(super) struct Spare<S, Req, F> {
    pub old: S,
    pub kept: Kept<Req>,
    pub rule: F,
    pub shared: Arc<Shared>,
}

impl<S: Service<Req>, N: Service<Req>, Req, F> ResponseFuture<S, N, Req, F> {
    #[inline(always)]
    pub(super) fn old(service: S, request: Req) -> Self {
        Self { call: Call::Old { call: Oneshot::new(service, request) }, spare: None }
    }

    #[inline(always)]
    pub(super) fn new(service: N, request: Req, spare: Option<Spare<S, Req, F>>) -> Self {
        Self { call: Call::New { call: Oneshot::new(service, request) }, spare }
    }
}

impl<S, N, Req, F> Future for ResponseFuture<S, N, Req, F>
where
    S: Service<Req>,
    N: Service<Req, Response = S::Response, Error = S::Error>,
    F: FallsBack<Req, S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (result, unsent) = match this.call.as_mut().project() {
            CallProj::Old { call } => return call.poll(cx),
            CallProj::New { mut call } => {
                let result = ready!(call.as_mut().poll(cx));
                (result, call.is_asking())
            }
        };
        let Some(Spare { old, kept, rule, shared }) = this.spare.take() else {
            return Poll::Ready(result);
        };
        let in_time = || !shared.is_overdue();
        let Some(request) = rule.request(kept, &result, unsent, in_time) else {
            return Poll::Ready(result);
        };
        drop(result);
        // The new side's call is dropped before the old side is asked.
        this.call.as_mut().set(Call::Old { call: Oneshot::new(old, request) });
        shared.fell_back();
        match this.call.project() {
            CallProj::Old { call } => call.poll(cx),
            CallProj::New { call } => call.poll(cx),
        }
    }
}

impl<S: Service<Req>, N: Service<Req>, Req, F> fmt::Debug for ResponseFuture<S, N, Req, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match &self.call {
            Call::Old { .. } => "old",
            Call::New { .. } => "new",
        };
        f.debug_struct("ResponseFuture").field("side", &side).finish_non_exhaustive()
    }
}
