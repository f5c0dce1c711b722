//! [`Oneshot`]: a call that waits until a service is ready.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use super::ended::polled_after_completion;

pin_project! {
    /// A future that waits until a service is ready, and then calls it. Dropping it cancels the wait or the call.
    #[project = OneshotProj]
    pub enum Oneshot<S, Req>
    where
        S: Service<Req>,
    {
        Asking { service: S, request: Option<Req> },
        Calling { #[pin] future: S::Future },
    }
}

impl<S: Service<Req>, Req> Oneshot<S, Req> {
    #[inline(always)]
    pub(crate) fn new(service: S, request: Req) -> Self {
        Self::Asking { service, request: Some(request) }
    }

    /// Returns `true` until the service has the request.
    #[inline]
    pub(crate) fn is_asking(&self) -> bool {
        matches!(self, Self::Asking { .. })
    }
}

impl<S: Service<Req>, Req> Future for Oneshot<S, Req> {
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let OneshotProj::Asking { service, request } = self.as_mut().project() {
            if request.is_none() {
                polled_after_completion("Oneshot");
            }
            let ready = ready!(service.poll_ready(cx));
            // A service that failed to become ready is never asked again.
            let Some(request) = request.take() else { polled_after_completion("Oneshot") };
            ready?;
            let future = service.call(request);
            self.set(Self::Calling { future });
        }
        match self.project() {
            OneshotProj::Calling { future } => future.poll(cx),
            OneshotProj::Asking { .. } => polled_after_completion("Oneshot"),
        }
    }
}
