use std::task::{Context, Poll};

use tower::Service;

use super::handle::Handle;
use super::shared::{Permit, Shared};
use crate::machinery::backpressure::BackpressureService;
use crate::machinery::limited;
use crate::machinery::own::{Counted, Own, service_over};
use crate::machinery::queued::{self, QueuedService};
use crate::vocabulary::cost::OneToken;
use crate::vocabulary::reject::Reject;
use crate::vocabulary::until::{Until, UntilResponse};

/// The response of a [`Bulkhead`]. Dropping it cancels the call and returns its permit.
pub type ResponseFuture<F, R, O = Counted, U = UntilResponse> =
    limited::ResponseFuture<F, R, Permit<O>, U>;

/// A service behind a bulkhead whose calls may wait in its queue.
/// [`BulkheadLayer::queued`](super::BulkheadLayer::queued) makes it.
pub type QueuedBulkhead<S, R, U = UntilResponse> = QueuedService<S, Shared, R, OneToken, U>;

/// The response of a [`QueuedBulkhead`]. Dropping it cancels the call.
pub type QueuedFuture<S, Req, R, U = UntilResponse> = queued::QueuedFuture<S, Req, Shared, R, U>;

/// A service that is ready only while it holds a permit.
/// [`BulkheadLayer::backpressure`](super::BulkheadLayer::backpressure) makes it.
pub type BackpressureBulkhead<S, R, U = UntilResponse> = BackpressureService<S, Shared, R, U>;

service_over! {
    /// A service behind a bulkhead that refuses without waiting.
    /// [`BulkheadLayer`](super::BulkheadLayer) makes it.
    pub struct Bulkhead<S, R, O: Own = Counted, U = UntilResponse> {
        reject: R, until: U;
        /// `true` if the last `poll_ready` found that the next `call` on this value will be refused.
        latch: bool = false
    }
}

impl<S, R, O, U, Req> Service<Req> for Bulkhead<S, R, O, U>
where
    S: Service<Req>,
    O: Own,
    R: Reject<S::Response, S::Error> + Clone,
    U: Until<S::Response> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, O, U>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The bulkhead is asked first, so that a call that will be refused reserves nothing in the
        // inner service.
        self.latch = self.shared.is_full();
        if self.latch {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        if !self.latch {
            if let Some(permit) = Shared::try_acquire::<O>(&self.shared) {
                let future = self.inner.call(request);
                return ResponseFuture::running(future, permit.begin(), self.until.clone());
            }
        }
        self.latch = false;
        ResponseFuture::refused(self.shared.refuse(), self.reject.clone())
    }
}
