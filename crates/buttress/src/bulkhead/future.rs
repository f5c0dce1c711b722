use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use super::shared::{Permit, Shared};
use crate::error::Error;
use crate::guard::OnUnwind;
use crate::reject::{Refused, Reject};
use crate::waiting::QueuePlace;

pin_project! {
    /// The response of a [`Bulkhead`](super::Bulkhead). Dropping it cancels the call and gives its
    /// permit back.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, R> {
        #[pin]
        kind: Kind<F, R>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<F, R> {
        // The future stands before the permit, so that it is dropped first.
        Running { #[pin] future: F, permit: Permit },
        Refused { refused: Refused<R> },
    }
}

impl<F, R> ResponseFuture<F, R> {
    #[inline(always)]
    pub(super) fn running(future: F, permit: Permit) -> Self {
        Self { kind: Kind::Running { future, permit: permit.begin() } }
    }

    pub(super) fn refused(error: Error, reject: R) -> Self {
        Self { kind: Kind::Refused { refused: Refused::new(error, reject) } }
    }
}

impl<F, R, Res, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Res, E>>,
    R: Reject<Res, E>,
{
    type Output = Result<Res, E>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Running { future, permit } => {
                // A panic gives the permit back on the spot.
                let mut held = OnUnwind::give_back(permit);
                let polled = future.poll(cx);
                if polled.is_ready() {
                    // Now, whenever this future is dropped: the call is over.
                    held.guard().end();
                }
                held.disarm();
                polled
            }
            KindProj::Refused { refused } => Poll::Ready(refused.answer()),
        }
    }
}

pin_project! {
    /// The response of a [`QueuedBulkhead`](super::QueuedBulkhead). Dropping it leaves the queue, or
    /// cancels the call and gives its permit back.
    #[must_use = "futures do nothing unless polled"]
    pub struct QueuedFuture<S, Req, R>
    where
        S: Service<Req>,
    {
        #[pin]
        kind: QueuedKind<S, Req, S::Future, R>,
    }
}

pin_project! {
    #[project = QueuedKindProj]
    enum QueuedKind<S, Req, F, R> {
        Waiting { place: QueuePlace<Shared>, service: S, request: Option<Req>, reject: Option<R> },
        Called { #[pin] response: ResponseFuture<F, R> },
    }
}

impl<S: Service<Req>, Req, R> QueuedFuture<S, Req, R> {
    pub(super) fn waiting(place: QueuePlace<Shared>, service: S, request: Req, reject: R) -> Self {
        let (request, reject) = (Some(request), Some(reject));
        Self { kind: QueuedKind::Waiting { place, service, request, reject } }
    }

    pub(super) fn called(response: ResponseFuture<S::Future, R>) -> Self {
        Self { kind: QueuedKind::Called { response } }
    }
}

impl<S, Req, R> Future for QueuedFuture<S, Req, R>
where
    S: Service<Req>,
    R: Reject<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut kind = self.project().kind;
        loop {
            let response = match kind.as_mut().project() {
                QueuedKindProj::Called { response } => return response.poll(cx),
                QueuedKindProj::Waiting { place, service, request, reject } => {
                    let settled = ready!(place.poll(cx));
                    // Both are there until the place is settled, which happens once.
                    let (Some(request), Some(reject)) = (request.take(), reject.take()) else {
                        return Poll::Pending;
                    };
                    match settled {
                        Ok(permit) => ResponseFuture::running(service.call(request), permit),
                        Err(error) => ResponseFuture::refused(error, reject),
                    }
                }
            };
            kind.set(QueuedKind::Called { response });
        }
    }
}

impl<S: Service<Req>, Req, R> std::fmt::Debug for QueuedFuture<S, Req, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = matches!(self.kind, QueuedKind::Waiting { .. });
        f.debug_struct("QueuedFuture").field("waiting", &waiting).finish_non_exhaustive()
    }
}
