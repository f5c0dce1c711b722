use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use super::handle::{End, Request};
use crate::machinery::ended::polled_after_completion;
use crate::machinery::guard::OnUnwind;
use crate::vocabulary::error::Error;
use crate::vocabulary::reject::Reject;

/// The service's own failure, or a refusal of the gateway.
pub(super) enum Stop<E> {
    Failed(E),
    Refused(Error),
}

/// The work of a request. It is boxed, because authorization, the wait for a backend and the
/// backend's work are futures of many types.
pub(super) type Sent<Res, E> = Pin<Box<dyn Future<Output = Result<Res, Stop<E>>> + Send>>;

pin_project! {
    /// The response of a [`Gateway`](super::Gateway). Dropping it cancels the request.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<Res, E, R> {
        phase: Phase<Res, E>,
        reject: R,
    }
}

enum Phase<Res, E> {
    /// No route is for the request.
    Refused(Error),
    Sent(Sent<Res, E>, Request),
    Over,
}

impl<Res, E, R> ResponseFuture<Res, E, R> {
    pub(super) fn refused(error: Error, reject: R) -> Self {
        Self { phase: Phase::Refused(error), reject }
    }

    pub(super) fn sent(sent: Sent<Res, E>, begun: Request, reject: R) -> Self {
        Self { phase: Phase::Sent(sent, begun), reject }
    }
}

impl<Res, E, R: Reject<Res, E>> Future for ResponseFuture<Res, E, R> {
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let ended = match this.phase {
            Phase::Sent(sent, begun) => {
                let unwind = OnUnwind::give_back(begun);
                let ended = sent.as_mut().poll(cx);
                unwind.disarm();
                Some(ready!(ended))
            }
            Phase::Refused(_) | Phase::Over => None,
        };
        let refusal = match (std::mem::replace(this.phase, Phase::Over), ended) {
            (Phase::Sent(_, mut begun), Some(Ok(answer))) => {
                begun.end(End::Answered);
                return Poll::Ready(Ok(answer));
            }
            (Phase::Sent(_, mut begun), Some(Err(Stop::Failed(error)))) => {
                begun.end(End::Failed);
                return Poll::Ready(Err(error));
            }
            (Phase::Sent(_, mut begun), Some(Err(Stop::Refused(error)))) => {
                begun.end(End::of(&error));
                error
            }
            (Phase::Refused(error), _) => error,
            (Phase::Sent(_, _), None) | (Phase::Over, _) => {
                polled_after_completion("gateway::ResponseFuture")
            }
        };
        Poll::Ready(this.reject.reject(refusal))
    }
}

impl<Res, E, R> fmt::Debug for ResponseFuture<Res, E, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Refused(_) => "refused",
            Phase::Sent(..) => "sent",
            Phase::Over => "over",
        };
        f.debug_struct("ResponseFuture").field("phase", &phase).finish_non_exhaustive()
    }
}
