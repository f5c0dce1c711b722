use std::fmt;
use std::task::{Context, Poll};

use tower::Service;

use super::again::Spare;
use super::clone_request::CloneRequest;
use super::future::ResponseFuture;
use super::handle::Handle;
use super::shared::{First, Shared};
use crate::machinery::own::{Counted, Held, Own};
use crate::vocabulary::classify::Classify;

/// A service whose failed calls are attempted again. [`RetryLayer`](super::RetryLayer) makes it.
pub struct Retry<S, C, Q, O: Own = Counted> {
    inner: S,
    shared: O::Of<Shared>,
    classify: C,
    clone: Q,
}

impl<S, C, Q, O: Own> Retry<S, C, Q, O> {
    pub(super) fn new(inner: S, shared: O::Of<Shared>, classify: C, clone: Q) -> Self {
        Self { inner, shared, classify, clone }
    }

    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.counted().clone() }
    }
}

impl<S, C, Q, O, Req> Service<Req> for Retry<S, C, Q, O>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
    Q: CloneRequest<Req> + Clone,
    O: Own,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, C, Q, O>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let First { repeats, started } = self.shared.begin();
        let copy = if repeats { self.clone.clone_request(&request) } else { None };
        // The service that was polled ready makes the first attempt. A clone, made only if other
        // attempts can follow, makes those.
        let next = copy.map(|copy| (self.inner.clone(), copy));
        self.clone.stamp(&mut request, 1);
        let first = self.inner.call(request);
        let (classify, clone) = (self.classify.clone(), self.clone.clone());
        let spare = Spare { next, classify, clone, started };
        ResponseFuture::new(first, spare, self.shared.clone())
    }
}

impl<S: Clone, C: Clone, Q: Clone, O: Own> Clone for Retry<S, C, Q, O> {
    fn clone(&self) -> Self {
        let (classify, clone) = (self.classify.clone(), self.clone.clone());
        Self::new(self.inner.clone(), self.shared.clone(), classify, clone)
    }
}

impl<S: fmt::Debug, C, Q, O: Own> fmt::Debug for Retry<S, C, Q, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
