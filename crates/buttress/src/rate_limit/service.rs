use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::cost::Cost;
use super::future::ResponseFuture;
use super::handle::Handle;
use super::shared::Shared;
use crate::error::RetryAfter;
use crate::reject::Reject;

/// A service behind a rate limiter that refuses at once. Made by
/// [`RateLimitLayer`](super::RateLimitLayer).
pub struct RateLimit<S, R, X> {
    inner: S,
    shared: Arc<Shared>,
    reject: R,
    cost: X,
    /// The refusal seen by the last `poll_ready`, for the next `call` on this value.
    latch: Option<RetryAfter>,
}

impl<S, R, X> RateLimit<S, R, X> {
    pub(super) fn new(inner: S, shared: Arc<Shared>, reject: R, cost: X) -> Self {
        Self { inner, shared, reject, cost, latch: None }
    }

    /// The operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl<S, R, X, Req> Service<Req> for RateLimit<S, R, X>
where
    S: Service<Req>,
    R: Reject<S::Response, S::Error> + Clone,
    X: Cost<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Looking first keeps a call that will be refused from reserving anything further in.
        self.latch = self.shared.peek();
        if self.latch.is_some() {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let cost = self.cost.cost(&request);
        let taken = match self.latch {
            None => self.shared.try_take(cost),
            // Whatever it costs: the inner service was not polled ready.
            Some(retry_after) => {
                self.latch = None;
                Err(retry_after)
            }
        };
        match taken {
            Ok(()) => ResponseFuture::running(self.inner.call(request)),
            Err(retry_after) => {
                let error = self.shared.refuse(retry_after);
                ResponseFuture::refused(error, self.reject.clone())
            }
        }
    }
}

impl<S: Clone, R: Clone, X: Clone> Clone for RateLimit<S, R, X> {
    fn clone(&self) -> Self {
        let (reject, cost) = (self.reject.clone(), self.cost.clone());
        Self::new(self.inner.clone(), self.shared.clone(), reject, cost)
    }
}

impl<S: fmt::Debug, R, X> fmt::Debug for RateLimit<S, R, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
