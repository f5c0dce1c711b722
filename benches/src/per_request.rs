//! The use of a service by a framework: a clone per request.

use std::task::{Context, Poll};

use tower::util::Oneshot;
use tower::{Service, ServiceExt};

/// Clones the inner service, calls the clone, and drops it with the response: axum's handling of a request.
#[derive(Clone, Debug)]
pub struct PerRequest<S>(pub S);

impl<S: Service<u64> + Clone> Service<u64> for PerRequest<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Oneshot<S, u64>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        self.0.clone().oneshot(request)
    }
}
