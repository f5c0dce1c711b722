//! The circuit breaker of the stack. It passes the ticket of each request to the gate.

use std::fmt;
use std::task::{Context, Poll};

use tower::Service;

use super::attempt::Attempt;
use crate::circuit_breaker::{CircuitBreaker, ResponseFuture};
use crate::vocabulary::classify::Classify;
use crate::vocabulary::reject::{AsError, Reject};

/// A circuit breaker that writes the ticket of each request into its first attempt.
#[derive(Clone)]
pub struct Admitting<S, C>(pub(super) CircuitBreaker<S, C, AsError>);

impl<S, C, Req> Service<Attempt<Req>> for Admitting<S, C>
where
    S: Service<Attempt<Req>>,
    C: Classify<S::Response, S::Error> + Clone,
    AsError: Reject<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C, AsError>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, attempt: Attempt<Req>) -> Self::Future {
        self.0.call_with(attempt, |attempt, ticket| attempt.ticket = ticket)
    }
}

impl<S: fmt::Debug, C> fmt::Debug for Admitting<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
