use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::running::Running;
use super::tape::Tape;
use crate::machinery::ended::polled_after_completion;
use crate::vocabulary::error::Error;
use crate::vocabulary::reject::Reject;

pin_project! {
    /// The response of an [`Idempotency`](super::Idempotency) service. Dropping it cancels the call,
    /// unless it runs detached. `W` is a call that [waits](super::Waiting).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, W, Res, E, T, R>
    where
        T: Tape<Res, E>,
    {
        #[pin]
        phase: Phase<F, W, Res, E, T>,
        reject: R,
    }
}

pin_project! {
    #[project = PhaseProj]
    pub(super) enum Phase<F, W, Res, E, T>
    where
        T: Tape<Res, E>,
    {
        // A request without a key.
        Passing { #[pin] future: F },
        // The call that runs the handler.
        Running { #[pin] running: Running<F, T, Res, E> },
        // A call that has to wait. It is boxed because it is large.
        Waiting { waiting: Pin<Box<W>> },
        // An answer that was stored.
        Answered { answer: Option<Result<Result<Res, E>, Error>> },
    }
}

impl<F, W, Res, E, T: Tape<Res, E>, R> ResponseFuture<F, W, Res, E, T, R> {
    #[inline(always)]
    pub(super) fn new(phase: Phase<F, W, Res, E, T>, reject: R) -> Self {
        Self { phase, reject }
    }
}

impl<F, W, Res, E, T, R> Future for ResponseFuture<F, W, Res, E, T, R>
where
    F: Future<Output = Result<Res, E>>,
    W: Future<Output = Result<Result<Res, E>, Error>>,
    T: Tape<Res, E>,
    T::Value: Clone + Send + 'static,
    R: Reject<Res, E>,
{
    type Output = Result<Res, E>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let ended = match this.phase.project() {
            PhaseProj::Passing { future } => return future.poll(cx),
            PhaseProj::Running { running } => ready!(running.poll(cx)),
            PhaseProj::Waiting { waiting } => ready!(waiting.as_mut().poll(cx)),
            PhaseProj::Answered { answer } => match answer.take() {
                Some(answer) => answer,
                None => polled_after_completion("idempotency::ResponseFuture"),
            },
        };
        Poll::Ready(ended.unwrap_or_else(|refusal| this.reject.reject(refusal)))
    }
}

impl<F, W, Res, E, T: Tape<Res, E>, R> fmt::Debug for ResponseFuture<F, W, Res, E, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Passing { .. } => "passing",
            Phase::Running { .. } => "running",
            Phase::Waiting { .. } => "waiting",
            Phase::Answered { .. } => "answered",
        };
        f.debug_struct("ResponseFuture").field("phase", &phase).finish_non_exhaustive()
    }
}
