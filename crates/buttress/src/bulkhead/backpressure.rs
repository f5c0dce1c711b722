use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tower::Service;

use super::future::ResponseFuture;
use super::handle::Handle;
use super::shared::Shared;
use crate::reject::Reject;
use crate::waiting::Waiting;

/// A service that is ready only while it holds a permit. Made by
/// [`BulkheadLayer::backpressure`](super::BulkheadLayer::backpressure).
///
/// The permit reserved by `poll_ready` is used by the next `call`, or given back when the service is
/// dropped. A clone starts without one.
pub struct BackpressureBulkhead<S, R> {
    inner: S,
    shared: Arc<Shared>,
    reject: R,
    reserved: Option<Waiting<Shared>>,
}

impl<S, R> BackpressureBulkhead<S, R> {
    pub(super) fn new(inner: S, shared: Arc<Shared>, reject: R) -> Self {
        Self { inner, shared, reject, reserved: None }
    }

    /// The operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl<S, R, Req> Service<Req> for BackpressureBulkhead<S, R>
where
    S: Service<Req>,
    R: Reject<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The permit comes first, as in tower's own limit: a pending inner service keeps it. An error
        // of the inner service, or a panic, gives it back.
        let permit = ready!(Waiting::poll_reserved(
            &mut self.reserved,
            || self.shared.acquire_or_park(),
            cx,
        ));
        let ready = self.inner.poll_ready(cx);
        if !matches!(ready, Poll::Ready(Err(_))) {
            self.reserved = permit.map(Waiting::Done);
        }
        ready
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let permit = match self.reserved.take() {
            Some(Waiting::Done(permit)) => Some(permit),
            // Called without being ready: admitted only if there is room.
            _ => self.shared.try_acquire(),
        };
        match permit {
            Some(permit) => ResponseFuture::running(self.inner.call(request), permit),
            None => {
                let error = self.shared.refuse();
                ResponseFuture::refused(error, self.reject.clone())
            }
        }
    }
}

impl<S: Clone, R: Clone> Clone for BackpressureBulkhead<S, R> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.shared.clone(), self.reject.clone())
    }
}

impl<S: fmt::Debug, R> fmt::Debug for BackpressureBulkhead<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackpressureBulkhead")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
