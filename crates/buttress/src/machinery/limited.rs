//! The response of a call through a limiter: a refusal, or a running call with its permit or
//! tokens.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::machinery::ended::polled_after_completion;
use crate::machinery::guard::{Guard, OnUnwind};
use crate::vocabulary::error::Error;
use crate::vocabulary::reject::{Refused, Reject};
use crate::vocabulary::until::{OpenCall, Until, UntilResponse};

/// The permit or tokens of a running call.
pub trait Held: Guard {
    /// The name of the response future, for a panic.
    const FUTURE: &'static str;

    /// Returns the permit at the end of the call.
    fn end(&mut self);

    /// Takes the permit of a call that is not over with its response. `None` if there is nothing to
    /// hold.
    fn hold(&mut self) -> Option<OpenCall>;
}

pin_project! {
    /// The response of a call through a limiter. Dropping it cancels the call.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, R, H, U = UntilResponse> {
        #[pin]
        kind: Kind<F, R, H, U>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<F, R, H, U> {
        // The future comes before its permit, so that it is dropped first.
        Running { #[pin] future: F, held: H, until: U },
        Refused { refused: Refused<R> },
    }
}

impl<F, R, H, U> ResponseFuture<F, R, H, U> {
    #[inline(always)]
    pub(crate) fn running(future: F, held: H, until: U) -> Self {
        Self { kind: Kind::Running { future, held, until } }
    }

    #[inline(always)]
    pub(crate) fn refused(error: Error, reject: R) -> Self {
        Self { kind: Kind::Refused { refused: Refused::new(error, reject) } }
    }
}

impl<F, R, H, U, Res, E> Future for ResponseFuture<F, R, H, U>
where
    F: Future<Output = Result<Res, E>>,
    R: Reject<Res, E>,
    H: Held,
    U: Until<Res>,
{
    type Output = Result<Res, E>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Running { future, held, until } => {
                // A panic returns the permit immediately.
                let mut held = OnUnwind::give_back(held);
                let polled = future.poll(cx);
                if !U::WITH_RESPONSE && matches!(polled, Poll::Ready(Ok(_))) {
                    let call = held.guard().hold();
                    held.disarm();
                    return polled.map_ok(|response| match call {
                        Some(call) => until.until(response, call),
                        None => response,
                    });
                }
                if polled.is_ready() {
                    // The call is over, so it ends now and not when this future is dropped.
                    held.guard().end();
                }
                held.disarm();
                polled
            }
            KindProj::Refused { refused } => match refused.answer() {
                Some(answer) => Poll::Ready(answer),
                None => polled_after_completion(H::FUTURE),
            },
        }
    }
}
