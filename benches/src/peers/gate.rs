//! A check that answers yes or no, in front of a service.

use crate::floors::Either;
use crate::guarded::{Guard, Inner};
use crate::workload::Failure;

/// Calls the inner service if the function returns `true`.
#[derive(Clone)]
pub(super) struct Gate<A>(pub(super) A);

impl<S: Inner, A: Fn(u64) -> bool> Guard<S> for Gate<A> {
    type Future = Either<S::Future, Result<u64, Failure>>;

    #[inline]
    fn call(&self, inner: &mut S, request: u64) -> Self::Future {
        if (self.0)(request) {
            Either::Inner { future: inner.call(request) }
        } else {
            Either::Refused { result: Some(Err(Failure::ByPeer)) }
        }
    }
}
