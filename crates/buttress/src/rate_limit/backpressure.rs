use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tower::Service;

use super::future::ResponseFuture;
use super::handle::Handle;
use super::shared::Shared;
use crate::reject::Reject;
use crate::waiting::Waiting;

/// A service that is ready only while it holds a token. Made by
/// [`RateLimitLayer::backpressure`](super::RateLimitLayer::backpressure).
///
/// The token reserved by `poll_ready` is used by the next `call`, or given back when the service is
/// dropped. A clone starts without one.
pub struct BackpressureRateLimit<S, R> {
    inner: S,
    shared: Arc<Shared>,
    reject: R,
    reserved: Option<Waiting<Shared>>,
}

impl<S, R> BackpressureRateLimit<S, R> {
    pub(super) fn new(inner: S, shared: Arc<Shared>, reject: R) -> Self {
        Self { inner, shared, reject, reserved: None }
    }

    /// The operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl<S, R, Req> Service<Req> for BackpressureRateLimit<S, R>
where
    S: Service<Req>,
    R: Reject<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The token comes first: a pending inner service keeps it. An error of the inner service, or
        // a panic, gives it back.
        let tokens =
            ready!(Waiting::poll_reserved(&mut self.reserved, || self.shared.take_or_park(), cx,));
        let ready = self.inner.poll_ready(cx);
        if !matches!(ready, Poll::Ready(Err(_))) {
            self.reserved = tokens.map(Waiting::Done);
        }
        ready
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let taken = match self.reserved.take() {
            Some(Waiting::Done(tokens)) => {
                tokens.spend();
                Ok(())
            }
            // Called without being ready: admitted only if there is a token.
            _ => self.shared.try_take(1),
        };
        match taken {
            Ok(()) => ResponseFuture::running(self.inner.call(request)),
            Err(retry_after) => {
                ResponseFuture::refused(self.shared.refuse(retry_after), self.reject.clone())
            }
        }
    }
}

impl<S: Clone, R: Clone> Clone for BackpressureRateLimit<S, R> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.shared.clone(), self.reject.clone())
    }
}

impl<S: fmt::Debug, R> fmt::Debug for BackpressureRateLimit<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackpressureRateLimit")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
