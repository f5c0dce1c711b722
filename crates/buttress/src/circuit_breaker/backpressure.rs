use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tower::Service;

use super::admission::Reserved;
use super::future::ResponseFuture;
use super::handle::Handle;
use super::service::settle_unready;
use super::shared::Shared;
use crate::machinery::own::Counted;
use crate::machinery::wakers::Owner;
use crate::vocabulary::classify::Classify;
use crate::vocabulary::clock::Sleep;
use crate::vocabulary::reject::Reject;
use crate::vocabulary::until::{Until, UntilResponse};

/// A service that is ready only while its circuit admits calls.
/// [`CircuitBreakerLayer::backpressure`](super::CircuitBreakerLayer::backpressure) makes it.
///
/// While half-open, `poll_ready` reserves a probe for the next `call`. Dropping the service returns
/// the probe. A clone starts without a probe.
pub struct BackpressureCircuitBreaker<S, C, R, U = UntilResponse> {
    inner: S,
    shared: Arc<Shared>,
    classify: C,
    reject: R,
    until: U,
    reserved: Reserved,
    parked: Owner,
    /// Wakes this service at the time at which the circuit will admit it again. Made at the first
    /// wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S, C, R, U> BackpressureCircuitBreaker<S, C, R, U> {
    pub(super) fn new(inner: S, shared: Arc<Shared>, classify: C, reject: R, until: U) -> Self {
        let (reserved, parked) = (Reserved::NOTHING, Owner::default());
        Self { inner, shared, classify, reject, until, reserved, parked, timer: None }
    }

    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }

    /// Returns `Ready` while an admission of the current state is reserved.
    fn poll_admission(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reserved.is_current() {
            return Poll::Ready(());
        }
        loop {
            // Register first and ask again afterwards: a change in between is not missed.
            self.reserved = Reserved::NOTHING;
            if let Ok(admission) = Shared::admit::<Counted>(&self.shared) {
                self.reserved = Reserved::new(admission);
                self.shared.wakers.forget(&mut self.parked);
                self.timer = None;
                return Poll::Ready(());
            }
            if self.shared.wakers.register(&mut self.parked, cx) {
                continue;
            }
            // A wake reports the closing of the circuit. The end of an open time or of a probe's
            // lease needs a timer.
            let Some(at) = self.shared.state.admits_at() else { return Poll::Pending };
            if self.poll_timer(at, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_timer(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = match &mut self.timer {
            Some(timer) => {
                timer.as_mut().reset(at);
                timer
            }
            empty => empty.insert(Box::pin(self.shared.telemetry.common.clock.sleep_until(at))),
        };
        timer.as_mut().poll(cx)
    }
}

impl<S, C, R, U, Req> Service<Req> for BackpressureCircuitBreaker<S, C, R, U>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + Clone,
    R: Reject<S::Response, S::Error> + Clone,
    U: Until<S::Response> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C, R, Counted, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        loop {
            if self.poll_admission(cx).is_pending() {
                return Poll::Pending;
            }
            // Held here while the inner service is polled, so that a panic of the inner service
            // settles this call.
            let admission = self.reserved.take();
            let ready = self.inner.poll_ready(cx);
            self.reserved = admission.map_or(Reserved::NOTHING, Reserved::new);
            match ready {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => {
                    self.reserved = Reserved::NOTHING;
                    return Poll::Ready(Err(settle_unready::<Counted, _, _, _>(
                        &self.shared,
                        &self.classify,
                        error,
                    )));
                }
                Poll::Pending => {
                    self.shared.wakers.register(&mut self.parked, cx);
                    if self.reserved.is_current() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        // The caller skipped `poll_ready`, or the circuit has changed since: ask again.
        let mut reserved = std::mem::replace(&mut self.reserved, Reserved::NOTHING);
        let current = if reserved.is_current() { reserved.take() } else { None };
        let admitted = current.map_or_else(|| Shared::admit::<Counted>(&self.shared), Ok);
        drop(reserved);
        match admitted {
            Ok(mut admission) => {
                admission.begin();
                let future = self.inner.call(request);
                let (classify, until) = (self.classify.clone(), self.until.clone());
                ResponseFuture::running(future, admission, classify, until)
            }
            Err(error) => ResponseFuture::refused(self.shared.refuse(error), self.reject.clone()),
        }
    }
}

impl<S, C, R, U> Drop for BackpressureCircuitBreaker<S, C, R, U> {
    fn drop(&mut self) {
        self.shared.wakers.forget(&mut self.parked);
    }
}

impl<S: Clone, C: Clone, R: Clone, U: Clone> Clone for BackpressureCircuitBreaker<S, C, R, U> {
    fn clone(&self) -> Self {
        let (classify, reject) = (self.classify.clone(), self.reject.clone());
        Self::new(self.inner.clone(), self.shared.clone(), classify, reject, self.until.clone())
    }
}

impl<S: fmt::Debug, C, R, U> fmt::Debug for BackpressureCircuitBreaker<S, C, R, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackpressureCircuitBreaker")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
