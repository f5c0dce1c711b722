//! [`ResponseFuture`]: the answer to a request.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::error::NoHandler;
use super::registered::{Answer, Call, Request};
use crate::ended::polled_after_completion;

/// The answer to a request. Made by [`Dispatch::send`](super::Dispatch::send) and
/// [`Handler`](super::Handler).
///
/// Dropping it drops the call of the handler.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Req: Request>(State<Req>);

enum State<Req: Request> {
    Running(Call<Req>),
    NoHandler(NoHandler),
    Ended,
}

impl<Req: Request> ResponseFuture<Req> {
    pub(super) fn running(call: Call<Req>) -> Self {
        Self(State::Running(call))
    }

    pub(super) fn no_handler(error: NoHandler) -> Self {
        Self(State::NoHandler(error))
    }
}

impl<Req: Request> Future for ResponseFuture<Req> {
    type Output = Answer<Req>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Running(call) = &mut self.0 {
            let polled = call.as_mut().poll(cx);
            if polled.is_ready() {
                self.0 = State::Ended;
            }
            return polled;
        }
        match std::mem::replace(&mut self.0, State::Ended) {
            State::NoHandler(error) => Poll::Ready(Err(error.into())),
            _ => polled_after_completion("dispatch::ResponseFuture"),
        }
    }
}

impl<Req: Request> fmt::Debug for ResponseFuture<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.0 {
            State::Running(_) => "running",
            State::NoHandler(_) => "no handler",
            State::Ended => "ended",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish()
    }
}
