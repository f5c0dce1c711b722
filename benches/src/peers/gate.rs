//! A check that answers yes or no, in front of a service.

use std::task::{Context, Poll};

use tower::Service;

use crate::floors::Either;
use crate::workload::Failure;

/// Calls the inner service if `ask` returns `true`.
#[derive(Clone)]
pub(super) struct Gate<S, A> {
    pub(super) inner: S,
    pub(super) ask: A,
}

impl<S, A> Service<u64> for Gate<S, A>
where
    S: Service<u64, Response = u64, Error = Failure>,
    A: Fn(u64) -> bool,
{
    type Response = u64;
    type Error = Failure;
    type Future = Either<S::Future, Result<u64, Failure>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        if (self.ask)(request) {
            Either::Inner { future: self.inner.call(request) }
        } else {
            Either::Refused { result: Some(Err(Failure::ByPeer)) }
        }
    }
}
