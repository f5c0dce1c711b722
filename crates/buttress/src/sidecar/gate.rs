//! [`Gate`]: asks the circuit again before each attempt after the first.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::Service;

use super::attempt::{Attempt, Stop};
use super::handle::Shared;
use crate::circuit_breaker::{Changed, Renewal, Ticket};
use crate::machinery::ended::polled_after_completion;
use crate::vocabulary::classify::Classify;
use crate::vocabulary::error::{Error, RetryAfter};
use crate::vocabulary::observe::CircuitState;

/// A service that admits later attempts only while the circuit would admit them. The breaker itself,
/// further out, admits the first attempt.
///
/// One gate admits the later attempts of one request only, because a retry clones the gate once per request.
pub struct Gate<S, C> {
    inner: S,
    classify: C,
    shared: Arc<Shared>,
    /// Reports changes of the circuit while the inner service is not ready.
    changed: Option<Changed>,
    /// The refusal that the last `poll_ready` found while the inner service was not ready.
    latch: Option<Error>,
    /// The place of the request in the circuit, once it was admitted again.
    renewal: Option<Arc<Renewal>>,
}

impl<S, C> Gate<S, C> {
    pub(super) fn new(inner: S, classify: C, shared: Arc<Shared>) -> Self {
        Self { inner, classify, shared, changed: None, latch: None, renewal: None }
    }

    /// Returns the refusal of a circuit that refuses every request.
    fn closed_to_all(&self) -> Option<Error> {
        let circuit = &self.shared.circuit_breaker;
        match circuit.state() {
            CircuitState::Open | CircuitState::ForcedOpen => circuit.check().err(),
            _ => None,
        }
    }

    /// Returns the refusal that `poll_ready` found, with the time that remains now. `poll_ready`
    /// may have found it earlier, and it may be over.
    fn latched(&mut self) -> Option<Error> {
        let seen = self.latch.take()?;
        let over = || Error::circuit_open(seen.layer().into(), RetryAfter::nanos(0));
        Some(self.closed_to_all().unwrap_or_else(over))
    }

    /// Checks whether the request with `ticket` may make another attempt.
    fn ask(&mut self, ticket: Ticket) -> Result<(), Error> {
        let circuit = &self.shared.circuit_breaker;
        let ticket = self.renewal.as_ref().map_or(ticket, |renewal| renewal.ticket());
        if circuit.holds(ticket) {
            if let Some(renewal) = &self.renewal {
                renewal.begin_again();
            }
            return Ok(());
        }
        // The circuit changed since it admitted the request, or another probe took the place. The
        // request asks like a new request: once the open time has passed, it can become the probe.
        self.renewal = None;
        self.renewal = Some(circuit.renew()?);
        Ok(())
    }

    #[inline(never)]
    fn call_again<Req>(&mut self, attempt: Attempt<Req>) -> GateFuture<S::Future, C>
    where
        S: Service<Attempt<Req>>,
        C: Clone,
    {
        let seen = self.latched();
        match seen.map_or_else(|| self.ask(attempt.ticket), Err) {
            Ok(()) => {
                let renewed = self.renewal.clone();
                let inner = &mut self.inner;
                let future = match &renewed {
                    Some(renewal) => renewal.watch(|| inner.call(attempt)),
                    None => inner.call(attempt),
                };
                let renewed = renewed.map(|renewal| (renewal, self.classify.clone()));
                GateFuture::Passed { future, renewed }
            }
            Err(refusal) => {
                self.shared.stopped_a_retry();
                self.renewal = None;
                GateFuture::Refused { refusal: Some(refusal.after_an_attempt()) }
            }
        }
    }
}

impl<S, C, Req, Res, E> Service<Attempt<Req>> for Gate<S, C>
where
    S: Service<Attempt<Req>, Response = Res, Error = Stop<E>>,
    C: Classify<Res, Stop<E>> + Clone,
{
    type Response = Res;
    type Error = Stop<E>;
    type Future = GateFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.latch = None;
        loop {
            if let Poll::Ready(ready) = self.inner.poll_ready(cx) {
                self.changed = None;
                return Poll::Ready(ready);
            }
            // An attempt that waits for the inner service must be woken when the circuit opens.
            let circuit = &self.shared.circuit_breaker;
            let changed = self.changed.get_or_insert_with(|| circuit.changed());
            let heard = Pin::new(changed).poll(cx).is_ready();
            self.latch = self.closed_to_all();
            if self.latch.is_some() {
                return Poll::Ready(Ok(()));
            }
            if !heard {
                return Poll::Pending;
            }
            self.changed = None;
        }
    }

    fn call(&mut self, attempt: Attempt<Req>) -> Self::Future {
        if attempt.number > 1 {
            return self.call_again(attempt);
        }
        match self.latched() {
            Some(refusal) => GateFuture::Refused { refusal: Some(refusal) },
            None => GateFuture::Passed { future: self.inner.call(attempt), renewed: None },
        }
    }
}

impl<S: Clone, C: Clone> Clone for Gate<S, C> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.classify.clone(), self.shared.clone())
    }
}

impl<S: fmt::Debug, C> fmt::Debug for Gate<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("inner", &self.inner).finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of an attempt, or its refusal.
    #[project = GateProj]
    pub enum GateFuture<F, C> {
        Passed { #[pin] future: F, renewed: Option<(Arc<Renewal>, C)> },
        Refused { refusal: Option<Error> },
    }
}

impl<F, C, Res, E> Future for GateFuture<F, C>
where
    F: Future<Output = Result<Res, Stop<E>>>,
    C: Classify<Res, Stop<E>>,
{
    type Output = Result<Res, Stop<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            GateProj::Passed { future, renewed: None } => future.poll(cx),
            GateProj::Passed { future, renewed: Some((renewal, classify)) } => {
                renewal.watch(|| future.poll(cx)).map(|result| {
                    renewal.note(classify.classify(&result), || classify.retry_after(&result));
                    result
                })
            }
            GateProj::Refused { refusal } => match refusal.take() {
                Some(refusal) => Poll::Ready(Err(Stop::Refused(refusal))),
                None => polled_after_completion("sidecar::ResponseFuture"),
            },
        }
    }
}
