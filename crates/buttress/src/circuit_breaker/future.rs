use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::admission::Admission;
use crate::machinery::ended::polled_after_completion;
use crate::machinery::guard::OnUnwind;
use crate::machinery::own::{Counted, Own};
use crate::vocabulary::classify::{Classify, Outcome};
use crate::vocabulary::error::Error;
use crate::vocabulary::reject::{Refused, Reject};
use crate::vocabulary::until::{Until, UntilResponse};

pin_project! {
    /// The response of a service behind a circuit breaker.
    ///
    /// Dropping it cancels the call. The call then counts as
    /// [`Config::dropped_calls`](super::Config::dropped_calls) says.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, C, R, O = Counted, U = UntilResponse>
    where
        O: Own,
    {
        #[pin]
        kind: Kind<F, C, R, O, U>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<F, C, R, O, U>
    where
        O: Own,
    {
        // The future comes before the admission, so that it is dropped first.
        Running { #[pin] future: F, admission: Admission<O>, classify: C, until: U },
        Refused { refused: Refused<R> },
    }
}

impl<F, C, R, O: Own, U> ResponseFuture<F, C, R, O, U> {
    #[inline(always)]
    pub(super) fn running(future: F, admission: Admission<O>, classify: C, until: U) -> Self {
        Self { kind: Kind::Running { future, admission, classify, until } }
    }

    pub(super) fn refused(error: Error, reject: R) -> Self {
        Self { kind: Kind::Refused { refused: Refused::new(error, reject) } }
    }
}

impl<F, C, R, O, U, Res, E> Future for ResponseFuture<F, C, R, O, U>
where
    O: Own,
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
    R: Reject<Res, E>,
    U: Until<Res>,
{
    type Output = Result<Res, E>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Running { future, admission, classify, until } => {
                // A panic settles the admission immediately, as a panic.
                let mut held = OnUnwind::give_back(admission);
                let Poll::Ready(result) = future.poll(cx) else {
                    held.disarm();
                    return Poll::Pending;
                };
                // The call is over, so it is settled now and not when this future is dropped.
                let outcome = classify.classify(&result);
                if !U::WITH_RESPONSE && outcome == Outcome::Success {
                    if let Ok(response) = result {
                        let call = held.guard().hold();
                        held.disarm();
                        return Poll::Ready(Ok(match call {
                            Some(call) => until.until(response, call),
                            None => response,
                        }));
                    }
                }
                held.guard().settle_in_place(outcome, || classify.retry_after(&result));
                held.disarm();
                Poll::Ready(result)
            }
            KindProj::Refused { refused } => match refused.answer() {
                Some(answer) => Poll::Ready(answer),
                None => polled_after_completion("circuit_breaker::ResponseFuture"),
            },
        }
    }
}
