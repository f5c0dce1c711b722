use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use super::recover::Recover;
use super::shared::Shared;
use crate::machinery::ended::polled_after_completion;
use crate::machinery::own::{Counted, Own};
use crate::vocabulary::classify::{Classify, Outcome};

pin_project! {
    /// The response of a [`Fallback`](super::Fallback). Dropping it cancels the call or the running
    /// fallback.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, F, C, O = Counted>
    where
        S: Service<Req>,
        F: Recover<Req, S::Response, S::Error>,
        O: Own,
    {
        #[pin]
        phase: Phase<S::Future, F::Future>,
        // The fallback and the kept parts of the request. `None` once used.
        recover: Option<(F, F::Kept)>,
        shared: O::Of<Shared>,
        classify: C,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<P, A> {
        Primary { #[pin] future: P },
        Answering { #[pin] future: A },
    }
}

impl<S, Req, F, C, O> ResponseFuture<S, Req, F, C, O>
where
    S: Service<Req>,
    F: Recover<Req, S::Response, S::Error>,
    O: Own,
{
    pub(super) fn new(
        future: S::Future,
        recover: (F, F::Kept),
        shared: O::Of<Shared>,
        classify: C,
    ) -> Self {
        Self { phase: Phase::Primary { future }, recover: Some(recover), shared, classify }
    }
}

impl<S, Req, F, C, O> Future for ResponseFuture<S, Req, F, C, O>
where
    S: Service<Req>,
    F: Recover<Req, S::Response, S::Error>,
    C: Classify<S::Response, S::Error>,
    O: Own,
{
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let answer = match this.phase.as_mut().project() {
                PhaseProj::Answering { future } => {
                    let result = ready!(future.poll(cx));
                    if this.classify.classify(&result) == Outcome::Failure {
                        this.shared.failed();
                    }
                    return Poll::Ready(result);
                }
                PhaseProj::Primary { future } => {
                    let result = ready!(future.poll(cx));
                    if this.classify.classify(&result) != Outcome::Failure {
                        return Poll::Ready(result);
                    }
                    // The fallback is taken once. From here on it answers.
                    let Some((recover, kept)) = this.recover.take() else {
                        polled_after_completion("fallback::ResponseFuture")
                    };
                    match recover.recover(&*this.shared.value, kept, result) {
                        Ok(answer) => answer,
                        Err(result) => return Poll::Ready(result),
                    }
                }
            };
            this.shared.fell_back();
            this.phase.set(Phase::Answering { future: answer });
        }
    }
}

impl<S, Req, F, C, O> fmt::Debug for ResponseFuture<S, Req, F, C, O>
where
    S: Service<Req>,
    F: Recover<Req, S::Response, S::Error>,
    O: Own,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answering = matches!(self.phase, Phase::Answering { .. });
        f.debug_struct("ResponseFuture").field("answering", &answering).finish_non_exhaustive()
    }
}
