use std::task::{Context, Poll};

use tower::Service;

use super::handle::Handle;
use super::shared::Shared;
use super::tokens::Spent;
use crate::machinery::backpressure::BackpressureService;
use crate::machinery::limited;
use crate::machinery::own::{Counted, Own, service_over};
use crate::machinery::queued::{self, QueuedService};
use crate::vocabulary::cost::{Cost, OneToken};
use crate::vocabulary::reject::Reject;
use crate::vocabulary::until::UntilResponse;

/// The response of a [`RateLimit`]. Dropping it cancels the call. The tokens stay spent.
pub type ResponseFuture<F, R> = limited::ResponseFuture<F, R, Spent>;

/// A service behind a rate limiter whose calls may wait for their tokens.
/// [`RateLimitLayer::queued`](super::RateLimitLayer::queued) makes it.
pub type QueuedRateLimit<S, R, W = OneToken> = QueuedService<S, Shared, R, W>;

/// The response of a [`QueuedRateLimit`]. Dropping it cancels the call.
pub type QueuedFuture<S, Req, R> = queued::QueuedFuture<S, Req, Shared, R>;

/// A service that is ready only while it holds a token.
/// [`RateLimitLayer::backpressure`](super::RateLimitLayer::backpressure) makes it.
pub type BackpressureRateLimit<S, R> = BackpressureService<S, Shared, R>;

service_over! {
    /// A service behind a rate limiter that refuses without waiting.
    /// [`RateLimitLayer`](super::RateLimitLayer) makes it.
    pub struct RateLimit<S, R, W, O: Own = Counted> {
        reject: R, cost: W;
        /// `true` if the last `poll_ready` found that the next `call` on this value will be refused.
        latch: bool = false
    }
}

impl<S, R, W, O, Req> Service<Req> for RateLimit<S, R, W, O>
where
    O: Own,
    S: Service<Req>,
    R: Reject<S::Response, S::Error> + Clone,
    W: Cost<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The limiter is asked first, so that a call that will be refused reserves nothing in the
        // inner service.
        self.latch = self.shared.peek().is_some();
        if self.latch {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let cost = self.cost.cost(&request);
        let taken = if self.latch {
            // Refused at any cost, because the inner service was not polled.
            self.latch = false;
            Err(self.shared.left(cost))
        } else {
            self.shared.try_take(cost)
        };
        match taken {
            Ok(spent) => ResponseFuture::running(self.inner.call(request), spent, UntilResponse),
            Err(retry_after) => {
                let error = self.shared.refuse(retry_after);
                ResponseFuture::refused(error, self.reject.clone())
            }
        }
    }
}
