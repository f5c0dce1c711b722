//! [`Guarded`]: a service with code around each of its calls, for the floors and the peers that are
//! no tower service.

use std::future::Future;
use std::task::{Context, Poll};

use tower::Service;

use crate::workload::Failure;

/// A service that a candidate wraps.
pub trait Inner: Service<u64, Response = u64, Error = Failure> {}

impl<S: Service<u64, Response = u64, Error = Failure>> Inner for S {}

/// A service that several tasks can share by clones.
pub trait Shared: Inner<Future: Send> + Clone + Send + 'static {}

impl<S: Inner<Future: Send> + Clone + Send + 'static> Shared for S {}

/// The code of a candidate around each call.
pub trait Guard<S: Inner> {
    type Future: Future<Output = Result<u64, Failure>>;

    /// Calls `inner`, or refuses.
    fn call(&self, inner: &mut S, request: u64) -> Self::Future;
}

/// A service behind a guard. It is ready when the inner service is.
#[derive(Clone)]
pub struct Guarded<S, G> {
    pub inner: S,
    pub guard: G,
}

impl<S: Inner, G: Guard<S>> Service<u64> for Guarded<S, G> {
    type Response = u64;
    type Error = Failure;
    type Future = G::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        self.guard.call(&mut self.inner, request)
    }
}
