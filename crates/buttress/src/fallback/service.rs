use std::task::{Context, Poll};

use tower::Service;

use super::future::ResponseFuture;
use super::handle::Handle;
use super::recover::Recover;
use super::shared::Shared;
use crate::machinery::own::{Counted, Own, service_over};
use crate::vocabulary::classify::Classify;

service_over! {
    /// A service with a fallback. [`FallbackLayer`](super::FallbackLayer) makes it.
    pub struct Fallback<S, F, C, O: Own = Counted> { recover: F, classify: C }
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
