use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use crate::machinery::ended::polled_after_completion;
use crate::machinery::limited::ResponseFuture;
use crate::machinery::waiting::{Limiter, Waiting};
use crate::vocabulary::error::Error;
use crate::vocabulary::reject::Reject;
use crate::vocabulary::until::{Until, UntilResponse};

pin_project! {
    /// The response of a call that may wait for its limiter. Dropping it leaves the queue, or
    /// cancels the call and returns its permit.
    #[must_use = "futures do nothing unless polled"]
    pub struct QueuedFuture<S, Req, L, R, U = UntilResponse>
    where
        S: Service<Req>,
        L: Limiter,
    {
        #[pin]
        kind: Kind<S, Req, S::Future, L, R, L::Held, U>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<S, Req, F, L, R, H, U>
    where
        L: Limiter,
    {
        // The turn is last, so that its permit is returned after every other part of the call was
        // dropped.
        Waiting { service: S, parts: Option<Parts<Req, R, U>>, turn: Option<Waiting<L>> },
        Called { #[pin] response: ResponseFuture<F, R, H, U> },
        Over,
    }
}

/// The parts of a waiting call that its end needs.
struct Parts<Req, R, U> {
    request: Req,
    reject: R,
    until: U,
}

impl<S: Service<Req>, Req, L: Limiter, R, U> QueuedFuture<S, Req, L, R, U> {
    pub(super) fn waiting(turn: Waiting<L>, service: S, request: Req, reject: R, until: U) -> Self {
        let (parts, turn) = (Some(Parts { request, reject, until }), Some(turn));
        Self { kind: Kind::Waiting { service, parts, turn } }
    }

    pub(super) fn running(future: S::Future, held: L::Held, until: U) -> Self {
        Self { kind: Kind::Called { response: ResponseFuture::running(future, held, until) } }
    }

    pub(super) fn refused(error: Error, reject: R) -> Self {
        Self { kind: Kind::Called { response: ResponseFuture::refused(error, reject) } }
    }
}

/// The reason why a turn ended before the call.
enum Stopped<E> {
    /// The limiter refused, or the longest wait is over.
    Refused(Error),
    /// The inner service failed to become ready.
    Failed(E),
}

/// Waits for the turn, and then for the service. `turn` is empty after that, and after a panic.
fn poll_turn<S, Req, L>(
    turn: &mut Option<Waiting<L>>,
    service: &mut S,
    cx: &mut Context<'_>,
) -> Poll<Result<L::Pass, Stopped<S::Error>>>
where
    S: Service<Req>,
    L: Limiter,
{
    if let Some(Waiting::Queued(place)) = turn {
        let granted = ready!(place.poll(cx)).map_err(Stopped::Refused);
        *turn = None;
        *turn = Some(Waiting::Done(granted?));
    }
    // Taken out while the service is polled, so that a panic returns it immediately.
    let Some(Waiting::Done(pass)) = turn.take() else { completed() };
    match service.poll_ready(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(pass)),
        Poll::Ready(Err(error)) => Poll::Ready(Err(Stopped::Failed(error))),
        Poll::Pending => {
            *turn = Some(Waiting::Done(pass));
            Poll::Pending
        }
    }
}

#[cold]
fn completed() -> ! {
    polled_after_completion("QueuedFuture")
}

impl<S, Req, L, R, U> Future for QueuedFuture<S, Req, L, R, U>
where
    S: Service<Req>,
    L: Limiter,
    R: Reject<S::Response, S::Error>,
    U: Until<S::Response>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut kind = self.project().kind;
        loop {
            let response = match kind.as_mut().project() {
                KindProj::Called { response } => return response.poll(cx),
                KindProj::Over => completed(),
                KindProj::Waiting { service, parts, turn } => {
                    let turned = ready!(poll_turn(turn, service, cx));
                    let Some(Parts { request, reject, until }) = parts.take() else { completed() };
                    match turned {
                        Ok(pass) => {
                            let held = L::begin(pass);
                            ResponseFuture::running(service.call(request), held, until)
                        }
                        Err(Stopped::Refused(error)) => ResponseFuture::refused(error, reject),
                        Err(Stopped::Failed(error)) => {
                            kind.set(Kind::Over);
                            return Poll::Ready(Err(error));
                        }
                    }
                }
            };
            kind.set(Kind::Called { response });
        }
    }
}

impl<S: Service<Req>, Req, L: Limiter, R, U> fmt::Debug for QueuedFuture<S, Req, L, R, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = matches!(self.kind, Kind::Waiting { .. });
        f.debug_struct("QueuedFuture").field("waiting", &waiting).finish_non_exhaustive()
    }
}
