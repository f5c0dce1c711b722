use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::future::{QueuedFuture, ResponseFuture};
use super::handle::Handle;
use super::shared::Shared;
use crate::reject::Reject;
use crate::waiting::Waiting;

/// A service behind a bulkhead whose calls may wait in its queue. Made by
/// [`BulkheadLayer::queued`](super::BulkheadLayer::queued).
///
/// The inner service that was polled ready waits with the request, and keeps what it had reserved.
pub struct QueuedBulkhead<S, R> {
    inner: S,
    shared: Arc<Shared>,
    reject: R,
    /// Whether the last `poll_ready` saw that the next `call` on this value will be refused.
    latch: bool,
}

impl<S, R> QueuedBulkhead<S, R> {
    pub(super) fn new(inner: S, shared: Arc<Shared>, reject: R) -> Self {
        Self { inner, shared, reject, latch: false }
    }

    /// The operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl<S, R, Req> Service<Req> for QueuedBulkhead<S, R>
where
    S: Service<Req> + Clone,
    R: Reject<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = QueuedFuture<S, Req, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.latch = self.shared.is_full_with_queue();
        if self.latch {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let asked = if std::mem::take(&mut self.latch) {
            Err(self.shared.refuse())
        } else {
            self.shared.acquire_or_wait()
        };
        match asked {
            Ok(Waiting::Done(permit)) => {
                QueuedFuture::called(ResponseFuture::running(self.inner.call(request), permit))
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

impl<S: Clone, R: Clone> Clone for QueuedBulkhead<S, R> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.shared.clone(), self.reject.clone())
    }
}

impl<S: fmt::Debug, R> fmt::Debug for QueuedBulkhead<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedBulkhead")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
