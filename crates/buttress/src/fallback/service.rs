use std::fmt;
use std::task::{Context, Poll};

use tower::Service;

use super::future::ResponseFuture;
use super::handle::Handle;
use super::recover::Recover;
use super::shared::Shared;
use crate::machinery::own::{Counted, Held, Own};
use crate::vocabulary::classify::Classify;

/// A service with a fallback. [`FallbackLayer`](super::FallbackLayer) makes it.
pub struct Fallback<S, F, C, O: Own = Counted> {
    inner: S,
    shared: O::Of<Shared>,
    recover: F,
    classify: C,
}

impl<S, F, C, O: Own> Fallback<S, F, C, O> {
    pub(super) fn new(inner: S, shared: O::Of<Shared>, recover: F, classify: C) -> Self {
        Self { inner, shared, recover, classify }
    }

    /// Returns the handle of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.counted().clone() }
    }
}

impl<S, F, C, O, Req> Service<Req> for Fallback<S, F, C, O>
where
    S: Service<Req>,
    F: Recover<Req, S::Response, S::Error> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
    O: Own,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, F, C, O>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        self.shared.begin();
        let kept = self.recover.keep(&request);
        ResponseFuture::new(
            self.inner.call(request),
            (self.recover.clone(), kept),
            self.shared.clone(),
            self.classify.clone(),
        )
    }
}

impl<S: Clone, F: Clone, C: Clone, O: Own> Clone for Fallback<S, F, C, O> {
    fn clone(&self) -> Self {
        let (recover, classify) = (self.recover.clone(), self.classify.clone());
        Self::new(self.inner.clone(), self.shared.clone(), recover, classify)
    }
}

impl<S: fmt::Debug, F, C, O: Own> fmt::Debug for Fallback<S, F, C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
