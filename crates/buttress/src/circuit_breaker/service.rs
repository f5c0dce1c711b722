use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::future::ResponseFuture;
use super::handle::Handle;
use super::shared::Shared;
use crate::classify::Classify;
use crate::error::Error;
use crate::reject::Reject;
use crate::wakers::Owner;

/// A service behind a circuit breaker that refuses at once. Made by
/// [`CircuitBreakerLayer`](super::CircuitBreakerLayer).
pub struct CircuitBreaker<S, C, R> {
    inner: S,
    shared: Arc<Shared>,
    classify: C,
    reject: R,
    /// The refusal seen by the last `poll_ready`, for the next `call` on this value.
    latch: Option<Error>,
    /// This value's place among those parked in the inner service.
    parked: Owner,
}

impl<S, C, R> CircuitBreaker<S, C, R> {
    pub(super) fn new(inner: S, shared: Arc<Shared>, classify: C, reject: R) -> Self {
        Self { inner, shared, classify, reject, latch: None, parked: Owner::default() }
    }

    /// The operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }

    #[inline]
    fn latch_refusal(&mut self) -> bool {
        if self.shared.state.admit_closed().is_some() {
            self.latch = None;
            return false;
        }
        self.latch = self.shared.peek();
        self.latch.is_some()
    }
}

impl<S, C, R, Req> Service<Req> for CircuitBreaker<S, C, R>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + Clone,
    R: Reject<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // Looking first keeps a call that will be refused from waiting for the inner service, or
        // reserving anything in it.
        if self.latch_refusal() {
            return Poll::Ready(Ok(()));
        }
        match self.shared.watch(|| self.inner.poll_ready(cx)) {
            Poll::Ready(ready) => {
                self.shared.wakers.forget(&mut self.parked);
                Poll::Ready(
                    ready.map_err(|error| settle_unready(&self.shared, &self.classify, error)),
                )
            }
            Poll::Pending => {
                // Whoever waits in there must hear when the circuit opens: it would be refused now.
                self.shared.wakers.register(&mut self.parked, cx);
                if self.latch_refusal() { Poll::Ready(Ok(())) } else { Poll::Pending }
            }
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let admitted = match self.latch.take() {
            Some(error) => Err(error),
            None => self.shared.admit(),
        };
        match admitted {
            Ok(mut admission) => {
                admission.begin();
                let future = self.inner.call(request);
                ResponseFuture::running(future, admission, self.classify.clone())
            }
            Err(error) => ResponseFuture::refused(self.shared.refuse(error), self.reject.clone()),
        }
    }
}

/// An inner service that cannot get ready fails the call that wanted it.
pub(super) fn settle_unready<Res, E, C: Classify<Res, E>>(
    shared: &Arc<Shared>,
    classify: &C,
    error: E,
) -> E {
    let result = Err(error);
    if let Ok(admission) = shared.admit() {
        admission.settle(classify.classify(&result), || classify.retry_after(&result));
    }
    let Err(error) = result else { unreachable!("made as an error above") };
    error
}

impl<S, C, R> Drop for CircuitBreaker<S, C, R> {
    fn drop(&mut self) {
        self.shared.wakers.forget(&mut self.parked);
    }
}

impl<S: Clone, C: Clone, R: Clone> Clone for CircuitBreaker<S, C, R> {
    fn clone(&self) -> Self {
        let (classify, reject) = (self.classify.clone(), self.reject.clone());
        Self::new(self.inner.clone(), self.shared.clone(), classify, reject)
    }
}

impl<S: fmt::Debug, C, R> fmt::Debug for CircuitBreaker<S, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
