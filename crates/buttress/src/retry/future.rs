use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use super::clone_request::CloneRequest;
use super::shared::Shared;
use super::state::Attempts;
use crate::classify::{Classify, Outcome};
use crate::clock::Sleep;

pin_project! {
    /// The response of a [`Retry`](super::Retry). Dropping it cancels the present attempt and makes no
    /// other.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, C, Q>
    where
        S: Service<Req>,
    {
        #[pin]
        phase: Phase<S::Future>,
        // What the next attempt needs; `None` if there can be none.
        next: Option<(S, Req)>,
        attempts: Attempts,
        shared: Arc<Shared>,
        classify: C,
        clone: Q,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<F> {
        Calling { #[pin] future: F },
        Waiting { #[pin] sleep: Sleep },
        // Until the service of the next attempt is ready.
        Readying,
    }
}

impl<S: Service<Req>, Req, C, Q> ResponseFuture<S, Req, C, Q> {
    pub(super) fn new(
        future: S::Future,
        next: Option<(S, Req)>,
        attempts: Attempts,
        shared: Arc<Shared>,
        classify: C,
        clone: Q,
    ) -> Self {
        Self { phase: Phase::Calling { future }, next, attempts, shared, classify, clone }
    }
}

impl<S, Req, C, Q> Future for ResponseFuture<S, Req, C, Q>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    Q: CloneRequest<Req>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next_phase = match this.phase.as_mut().project() {
                PhaseProj::Calling { future } => {
                    let result = ready!(future.poll(cx));
                    if this.classify.classify(&result) != Outcome::Failure {
                        return Poll::Ready(result);
                    }
                    let hint = this.classify.retry_after(&result);
                    let clone = &*this.clone;
                    let repeatable =
                        this.next.as_ref().is_some_and(|(_, copy)| clone.is_repeatable(copy));
                    let next = &*this.next;
                    let commit = || next.as_ref().is_some_and(|(_, copy)| clone.commit(copy));
                    let Some(delay) = this.shared.next(this.attempts, repeatable, hint, commit)
                    else {
                        return Poll::Ready(result);
                    };
                    if delay.is_zero() {
                        Phase::Readying
                    } else {
                        Phase::Waiting { sleep: this.shared.common.clock.sleep(delay) }
                    }
                }
                PhaseProj::Waiting { sleep } => {
                    ready!(sleep.poll(cx));
                    Phase::Readying
                }
                PhaseProj::Readying => {
                    // Attempts that neither wait nor pend must not keep the other tasks from running.
                    ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
                    // There is one: without it the last failure would have been returned.
                    let Some((service, _)) = this.next.as_mut() else { return Poll::Pending };
                    ready!(service.poll_ready(cx))?;
                    let Some((mut service, mut request)) = this.next.take() else {
                        return Poll::Pending;
                    };
                    let repeats = this.shared.may_repeat(this.attempts.number());
                    let spare = repeats.then(|| this.clone.clone_request(&request)).flatten();
                    this.clone.stamp(&mut request, this.attempts.number());
                    let future = service.call(request);
                    *this.next = spare.map(|spare| (service, spare));
                    Phase::Calling { future }
                }
            };
            this.phase.set(next_phase);
        }
    }
}

impl<S: Service<Req>, Req, C, Q> fmt::Debug for ResponseFuture<S, Req, C, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("attempts", &self.attempts).finish_non_exhaustive()
    }
}
