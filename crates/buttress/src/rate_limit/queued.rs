use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::cost::Cost;
use super::future::{QueuedFuture, ResponseFuture};
use super::handle::Handle;
use super::shared::Shared;
use crate::error::RetryAfter;
use crate::reject::Reject;
use crate::waiting::Waiting;

/// A service behind a rate limiter whose calls may wait for their tokens. Made by
/// [`RateLimitLayer::queued`](super::RateLimitLayer::queued).
///
/// The inner service that was polled ready waits with the request, and keeps what it had reserved.
pub struct QueuedRateLimit<S, R, X> {
    inner: S,
    shared: Arc<Shared>,
    reject: R,
    cost: X,
    /// The refusal seen by the last `poll_ready`, for the next `call` on this value.
    latch: Option<RetryAfter>,
}

impl<S, R, X> QueuedRateLimit<S, R, X> {
    pub(super) fn new(inner: S, shared: Arc<Shared>, reject: R, cost: X) -> Self {
        Self { inner, shared, reject, cost, latch: None }
    }

    /// The operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl<S, R, X, Req> Service<Req> for QueuedRateLimit<S, R, X>
where
    S: Service<Req> + Clone,
    R: Reject<S::Response, S::Error> + Clone,
    X: Cost<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = QueuedFuture<S, Req, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.latch = self.shared.peek_queued();
        if self.latch.is_some() {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let asked = match self.latch.take() {
            Some(retry_after) => Err(self.shared.refuse(retry_after)),
            None => self.shared.take_or_wait(self.cost.cost(&request)),
        };
        match asked {
            Ok(Waiting::Done(tokens)) => {
                tokens.spend();
                QueuedFuture::called(ResponseFuture::running(self.inner.call(request)))
            }
            Ok(Waiting::Queued(place)) => {
                let fresh = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, fresh);
                QueuedFuture::waiting(place, ready, request, self.reject.clone())
            }
            Err(error) => QueuedFuture::called(ResponseFuture::refused(error, self.reject.clone())),
        }
    }
}

impl<S: Clone, R: Clone, X: Clone> Clone for QueuedRateLimit<S, R, X> {
    fn clone(&self) -> Self {
        let (reject, cost) = (self.reject.clone(), self.cost.clone());
        Self::new(self.inner.clone(), self.shared.clone(), reject, cost)
    }
}

impl<S: fmt::Debug, R, X> fmt::Debug for QueuedRateLimit<S, R, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedRateLimit")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
