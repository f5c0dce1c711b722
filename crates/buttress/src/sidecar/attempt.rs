//! The bottom of the stack: adapts the user's service to the parts.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use crate::circuit_breaker::Ticket;
use crate::retry::CloneRequest;
use crate::vocabulary::error::Error;

/// A request, the number of its attempt, and the ticket of its admission by the circuit.
#[derive(Debug)]
pub struct Attempt<Req> {
    pub(super) request: Req,
    pub(super) number: u32,
    pub(super) ticket: Ticket,
}

/// The reason why a request ended without an answer of the service. An answer, good or bad, is the
/// *response* of the inner stack, so that the user's classifier can judge it unchanged.
#[derive(Debug)]
pub enum Stop<E> {
    /// A part refused the request or cancelled it.
    Refused(Error),
    /// The service failed to become ready.
    Unready(E),
}

impl<E> From<Error> for Stop<E> {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// A copier that copies and stamps the request in an [`Attempt`] with the user's `Q`.
#[derive(Clone, Debug)]
pub struct CloneAttempt<Q>(pub(super) Q);

#[diagnostic::do_not_recommend]
impl<Req, Q: CloneRequest<Req>> CloneRequest<Attempt<Req>> for CloneAttempt<Q> {
    fn clone_request(&self, attempt: &Attempt<Req>) -> Option<Attempt<Req>> {
        let request = self.0.clone_request(&attempt.request)?;
        let Attempt { number, ticket, .. } = *attempt;
        Some(Attempt { request, number, ticket })
    }

    fn is_repeatable(&self, copy: &Attempt<Req>) -> bool {
        self.0.is_repeatable(&copy.request)
    }

    fn commit(&self, copy: &Attempt<Req>) -> bool {
        self.0.commit(&copy.request)
    }

    fn stamp(&self, attempt: &mut Attempt<Req>, number: u32) {
        attempt.number = number;
        self.0.stamp(&mut attempt.request, number);
    }
}

/// A service that turns every answer of the service, good or bad, into a response.
#[derive(Clone, Debug)]
pub struct Answers<S>(pub(super) S);

impl<S: Service<Req>, Req> Service<Attempt<Req>> for Answers<S> {
    type Response = Result<S::Response, S::Error>;
    type Error = Stop<S::Error>;
    type Future = AnswerFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx).map_err(Stop::Unready)
    }

    fn call(&mut self, attempt: Attempt<Req>) -> Self::Future {
        AnswerFuture { future: self.0.call(attempt.request) }
    }
}

pin_project! {
    /// The answer of the service.
    #[derive(Debug)]
    pub struct AnswerFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F, Res, E> Future for AnswerFuture<F>
where
    F: Future<Output = Result<Res, E>>,
{
    type Output = Result<Result<Res, E>, Stop<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(ready!(self.project().future.poll(cx))))
    }
}
