use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::shared::Admission;
use crate::classify::Classify;
use crate::error::Error;
use crate::guard::GiveBack;
use crate::reject::{Refused, Reject};

pin_project! {
    /// The response of a service behind a circuit breaker. Dropping it cancels the call and settles it
    /// as the configuration says of dropped calls.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, C, R> {
        #[pin]
        kind: Kind<F, C, R>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<F, C, R> {
        // The future stands before the admission, so that it is dropped first.
        Running { #[pin] future: F, admission: Option<Admission>, classify: C },
        Refused { refused: Refused<R> },
    }
}

impl<F, C, R> ResponseFuture<F, C, R> {
    pub(super) fn running(future: F, admission: Admission, classify: C) -> Self {
        Self { kind: Kind::Running { future, admission: Some(admission), classify } }
    }

    pub(super) fn refused(error: Error, reject: R) -> Self {
        Self { kind: Kind::Refused { refused: Refused::new(error, reject) } }
    }
}

impl<F, C, R, Res, E> Future for ResponseFuture<F, C, R>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
    R: Reject<Res, E>,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Running { future, admission, classify } => {
                // A panic gives the admission back on the spot, as a panic.
                let mut held = GiveBack::on_unwind(admission);
                let polled = future.poll(cx);
                let Poll::Ready(result) = &polled else {
                    held.keep();
                    return Poll::Pending;
                };
                let outcome = classify.classify(result);
                if let Some(admission) = held.get() {
                    admission.settle_in_place(outcome, || classify.retry_after(result));
                }
                // Its call is over, whether this future is dropped or not.
                drop(held);
                polled
            }
            KindProj::Refused { refused } => Poll::Ready(refused.answer()),
        }
    }
}
