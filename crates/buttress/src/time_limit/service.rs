use std::task::{Context, Poll};

use tower::Service;

use super::future::ResponseFuture;
use super::handle::Handle;
use super::limit::Limit;
use super::shared::Shared;
use crate::machinery::own::{Counted, Own, service_over};
use crate::vocabulary::reject::Reject;

service_over! {
    /// A service with a time limit. [`TimeLimitLayer`](super::TimeLimitLayer) makes it.
    pub struct TimeLimit<S, L, R, O: Own = Counted> { limit: L, reject: R }
}

impl<S, L, R, O, Req> Service<Req> for TimeLimit<S, L, R, O>
where
    S: Service<Req>,
    L: Limit<Req>,
    O: Own,
    R: Reject<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, O>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let limit = self.limit.limit(&request);
        let limited = Shared::begin(&self.shared, limit, || self.inner.call(request));
        ResponseFuture::new(limited, self.reject.clone())
    }
}
