use std::task::{Context, Poll};

use tower::Service;

use super::again::Spare;
use super::clone_request::CloneRequest;
use super::future::ResponseFuture;
use super::handle::Handle;
use super::shared::{First, Shared};
use crate::machinery::own::{Counted, Own, service_over};
use crate::vocabulary::classify::Classify;

service_over! {
    /// A service whose failed calls are attempted again. [`RetryLayer`](super::RetryLayer) makes it.
    pub struct Retry<S, C, Q, O: Own = Counted> { classify: C, clone: Q }
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
