use std::fmt;
use std::task::{Context, Poll};

use tower::Service;

use super::future::ResponseFuture;
use super::handle::Handle;
use super::limit::Limit;
use super::shared::Shared;
use crate::machinery::own::{Counted, Held, Own};
use crate::vocabulary::reject::Reject;

/// A service with a time limit. [`TimeLimitLayer`](super::TimeLimitLayer) makes it.
pub struct TimeLimit<S, L, R, O: Own = Counted> {
    inner: S,
    shared: O::Of<Shared>,
    limit: L,
    reject: R,
}

impl<S, L, R, O: Own> TimeLimit<S, L, R, O> {
    pub(super) fn new(inner: S, shared: O::Of<Shared>, limit: L, reject: R) -> Self {
        Self { inner, shared, limit, reject }
    }

    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.counted().clone() }
    }
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

impl<S: Clone, L: Clone, R: Clone, O: Own> Clone for TimeLimit<S, L, R, O> {
    fn clone(&self) -> Self {
        let (limit, reject) = (self.limit.clone(), self.reject.clone());
        Self::new(self.inner.clone(), self.shared.clone(), limit, reject)
    }
}

impl<S: fmt::Debug, L, R, O: Own> fmt::Debug for TimeLimit<S, L, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeLimit")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
