use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use super::seat::Seat;
use super::shared::Verdict;
use super::waiting::{Ready, Waiting, Wishes};
use crate::machinery::ended::polled_after_completion;
use crate::machinery::guard::OnUnwind;
use crate::vocabulary::classify::Classify;
use crate::vocabulary::reject::Reject;

pin_project! {
    /// The response of a [`Balance`](super::Balance). Dropping it cancels the call.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, C, R>
    where
        S: Service<Req>,
    {
        // Before the seat, so that the call is dropped before its place is free.
        #[pin]
        phase: Phase<S, Req, S::Future>,
        seat: Seat<S>,
        classify: C,
        reject: R,
    }
}

pin_project! {
    #[project = PhaseProj]
    enum Phase<S, Req, F> {
        // Chosen in `call`, and not asked yet.
        Chosen { request: Option<Req>, wishes: Wishes },
        Waiting { request: Option<Req>, waiting: Box<Waiting<S>> },
        Calling { #[pin] future: F },
        Over,
    }
}

impl<S: Service<Req>, Req, C, R> ResponseFuture<S, Req, C, R> {
    #[inline]
    pub(super) fn new(
        request: Req,
        wishes: Wishes,
        seat: Seat<S>,
        (classify, reject): (C, R),
    ) -> Self {
        let phase = Phase::Chosen { request: Some(request), wishes };
        Self { phase, seat, classify, reject }
    }
}

/// The answer of the endpoint that `call` chose.
enum First<S> {
    /// It takes the call. Its number, and the clone of its stack.
    Ready(u64, S),
    Busy(Option<Ready<S>>),
}

/// Asks the endpoint that `call` chose, unless it has left the set since.
#[inline]
fn ask_first<S: Service<Req> + Clone, Req>(seat: &mut Seat<S>, cx: &mut Context<'_>) -> First<S> {
    let Some(endpoint) = seat.endpoint().filter(|endpoint| !endpoint.is_removed()) else {
        let _removed = seat.leave();
        return First::Busy(None);
    };
    let mut service = endpoint.service();
    match service.poll_ready(cx) {
        Poll::Ready(Ok(())) => {
            endpoint.history.was_ready();
            First::Ready(endpoint.history.serial, service)
        }
        Poll::Pending => First::Busy(seat.leave().map(|endpoint| (endpoint, service))),
        Poll::Ready(Err(_)) => {
            if let Some(endpoint) = seat.leave() {
                seat.core.not_ready(&endpoint);
            }
            First::Busy(None)
        }
    }
}

impl<S, Req, C, R> Future for ResponseFuture<S, Req, C, R>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error>,
    R: Reject<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // A panic of the endpoint ends the call here, and not when the future is dropped.
        let mut unwind = OnUnwind::give_back(this.seat);
        let output = loop {
            let seat = unwind.guard();
            let (request, mut service, tried) = match this.phase.as_mut().project() {
                PhaseProj::Calling { future } => match future.poll(cx) {
                    Poll::Pending => break Poll::Pending,
                    Poll::Ready(result) => {
                        this.phase.set(Phase::Over);
                        let classify = &*this.classify;
                        seat.end(Verdict::of(classify, &result));
                        break Poll::Ready(result);
                    }
                },
                PhaseProj::Chosen { request, wishes } => {
                    let Some(request) = request.take() else {
                        polled_after_completion("balance::ResponseFuture")
                    };
                    match ask_first(seat, cx) {
                        First::Ready(serial, service) => {
                            wishes.meet(serial);
                            (request, service, wishes.tried.take())
                        }
                        First::Busy(asked) => {
                            let wishes = std::mem::take(wishes);
                            let waiting = Waiting::new(seat.core.clone(), wishes, asked);
                            this.phase.set(Phase::Waiting { request: Some(request), waiting });
                            continue;
                        }
                    }
                }
                PhaseProj::Waiting { request, waiting } => {
                    let (endpoint, service) = match waiting.poll(cx) {
                        Poll::Pending => break Poll::Pending,
                        Poll::Ready(Ok(found)) => found,
                        Poll::Ready(Err(error)) => {
                            this.phase.set(Phase::Over);
                            break Poll::Ready(this.reject.reject(error));
                        }
                    };
                    let Some(request) = request.take() else {
                        polled_after_completion("balance::ResponseFuture")
                    };
                    let tried = waiting.meet(&endpoint);
                    seat.take(endpoint, seat.core.shared.now());
                    (request, service, tried)
                }
                PhaseProj::Over => polled_after_completion("balance::ResponseFuture"),
            };
            seat.called(tried);
            this.phase.set(Phase::Calling { future: service.call(request) });
        };
        unwind.disarm();
        Poll::Ready(ready!(output))
    }
}

impl<S: Service<Req>, Req, C, R> fmt::Debug for ResponseFuture<S, Req, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Chosen { .. } => "chosen",
            Phase::Waiting { .. } => "waiting",
            Phase::Calling { .. } => "calling",
            Phase::Over => "over",
        };
        f.debug_struct("ResponseFuture").field("phase", &phase).finish_non_exhaustive()
    }
}
