use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::admitting::Admitting;
use super::attempt::{Answers, Attempt, CloneAttempt, Stop};
use super::future::ResponseFuture;
use super::gate::Gate;
use super::handle::{Handle, Shared};
use super::judge::{Attempts, Judge, Requests};
use super::optional::MaybeLimited;
use crate::circuit_breaker::Ticket;
use crate::retry::{CloneRequest, Retry};
use crate::time_limit::{Fixed, TimeLimit};
use crate::vocabulary::classify::Classify;
use crate::vocabulary::reject::{AsError, Reject};

/// The parts in their order: limiter, breaker, retry, gate, time limit of an attempt. `layer.rs` puts them together.
pub(super) type Stack<S, C, T, Q> = MaybeLimited<
    Admitting<Retry<Gated<S, C>, Judge<T, Attempts>, CloneAttempt<Q>>, Judge<C, Requests>>,
>;

/// The services that a retry calls again.
type Gated<S, C> = Gate<TimeLimit<Answers<S>, Fixed, AsError>, Judge<C, Requests>>;

/// The future of the stack for an attempt.
type Called<S, C, T, Q, Req> = <Stack<S, C, T, Q> as Service<Attempt<Req>>>::Future;

/// A service behind a sidecar. [`SidecarLayer`](super::SidecarLayer) makes it.
pub struct Sidecar<S, C, T, Q, R> {
    stack: Stack<S, C, T, Q>,
    shared: Arc<Shared>,
    classify: C,
    reject: R,
}

impl<S, C, T, Q, R> Sidecar<S, C, T, Q, R> {
    pub(super) fn new(
        stack: Stack<S, C, T, Q>,
        shared: Arc<Shared>,
        classify: C,
        reject: R,
    ) -> Self {
        Self { stack, shared, classify, reject }
    }

    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl<S, C, T, Q, R, Req> Service<Req> for Sidecar<S, C, T, Q, R>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
    T: Classify<S::Response, S::Error> + Clone,
    Q: CloneRequest<Req> + Clone,
    R: Reject<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<Called<S, C, T, Q, Req>, C, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.stack.poll_ready(cx).map_err(|stop| match stop {
            Stop::Unready(error) => error,
            Stop::Refused(_) => unreachable!("a refusal is never an error of poll_ready"),
        })
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let counted = self.shared.begin();
        let future = self.stack.call(Attempt { request, number: 1, ticket: Ticket::NONE });
        ResponseFuture::new(future, counted, self.classify.clone(), self.reject.clone())
    }
}

impl<S: Clone, C: Clone, T: Clone, Q: Clone, R: Clone> Clone for Sidecar<S, C, T, Q, R> {
    fn clone(&self) -> Self {
        let (classify, reject) = (self.classify.clone(), self.reject.clone());
        Self::new(self.stack.clone(), self.shared.clone(), classify, reject)
    }
}

impl<S: fmt::Debug, C, T, Q, R> fmt::Debug for Sidecar<S, C, T, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sidecar")
            .field("stack", &self.stack)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
