//! Asks the circuit again before each attempt after the first.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::Service;

use super::attempt::{Attempt, Stop};
use crate::circuit_breaker::{self, Changed};
use crate::error::{Error, RetryAfter};
use crate::name::Name;
use crate::observe::CircuitState;

/// Lets later attempts pass only while the circuit would. The first was admitted by the breaker itself,
/// further out.
#[derive(Debug)]
pub struct Gate<S> {
    inner: S,
    circuit: circuit_breaker::Handle,
    name: Name,
    /// Heard while parked in the inner service.
    changed: Option<Changed>,
    /// The refusal seen by the last `poll_ready`, whose inner service was not ready.
    latch: Option<Error>,
}

impl<S> Gate<S> {
    pub(super) fn new(inner: S, circuit: circuit_breaker::Handle, name: Name) -> Self {
        Self { inner, circuit, name, changed: None, latch: None }
    }

    /// The refusal of everybody, whether probe or not.
    fn closed_to_all(&self) -> Option<Error> {
        match self.circuit.state() {
            CircuitState::Open | CircuitState::ForcedOpen => self.circuit.check(),
            _ => None,
        }
    }

    fn refusal<Req>(&self, attempt: &Attempt<Req>) -> Option<Error> {
        if attempt.number == 1 {
            return None;
        }
        // The request is a probe if it came when the circuit was half-open (the same generation) or
        // opened itself to it (the next). One that was let through before the circuit opened is not,
        // and may not join the probes.
        let is_probe = self.circuit.generation().wrapping_sub(attempt.generation) <= 1;
        match self.circuit.state() {
            CircuitState::HalfOpen if !is_probe => {
                Some(Error::circuit_open(self.name, RetryAfter::UNKNOWN))
            }
            _ => self.closed_to_all(),
        }
    }
}

impl<S, Req, Res, E> Service<Attempt<Req>> for Gate<S>
where
    S: Service<Attempt<Req>, Response = Res, Error = Stop<E>>,
{
    type Response = Res;
    type Error = Stop<E>;
    type Future = GateFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.latch = None;
        loop {
            if let Poll::Ready(ready) = self.inner.poll_ready(cx) {
                self.changed = None;
                return Poll::Ready(ready);
            }
            // An attempt that waits in there must hear when the circuit opens.
            let circuit = &self.circuit;
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
        let seen = self.latch.take();
        match seen.or_else(|| self.refusal(&attempt)) {
            Some(refusal) if attempt.number > 1 => {
                GateFuture::Refused { refusal: Some(refusal.after_an_attempt()) }
            }
            Some(refusal) => GateFuture::Refused { refusal: Some(refusal) },
            None => GateFuture::Passed { future: self.inner.call(attempt) },
        }
    }
}

impl<S: Clone> Clone for Gate<S> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.circuit.clone(), self.name)
    }
}

pin_project! {
    /// The attempt, or the refusal to make it.
    #[project = GateProj]
    #[derive(Debug)]
    pub enum GateFuture<F> {
        Passed { #[pin] future: F },
        Refused { refusal: Option<Error> },
    }
}

impl<F, Res, E> Future for GateFuture<F>
where
    F: Future<Output = Result<Res, Stop<E>>>,
{
    type Output = Result<Res, Stop<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            GateProj::Passed { future } => future.poll(cx),
            GateProj::Refused { refusal } => match refusal.take() {
                Some(refusal) => Poll::Ready(Err(Stop::Refused(refusal))),
                None => Poll::Pending,
            },
        }
    }
}
