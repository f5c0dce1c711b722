use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::Service;

use super::again::{Again, Spare};
use super::clone_request::CloneRequest;
use super::shared::Shared;
use crate::classify::{Classify, Outcome};

pin_project! {
    /// The response of a [`Retry`](super::Retry). Dropping it cancels the present attempt and makes no
    /// other.
    ///
    /// It holds the first attempt; the others are boxed when that has failed, so that a call that needs
    /// none of them is small and allocates nothing.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, C, Q>
    where
        S: Service<Req>,
    {
        // `None` once it has failed: dropped before anything waits.
        #[pin]
        first: Option<S::Future>,
        spare: Spare<S, Req, C, Q>,
        rest: Rest<S, Req, C, Q>,
    }
}

/// Who holds the rules. Dropped out of line, so that dropping the future of a call that succeeded is a
/// look at one word.
struct Rest<S: Service<Req>, Req, C, Q>(Holder<S, Req, C, Q>);

enum Holder<S: Service<Req>, Req, C, Q> {
    /// The first attempt.
    First(Arc<Shared>),
    /// The attempts after it.
    Again(Pin<Box<Again<S, Req, C, Q>>>),
    /// Nobody: the call is over.
    Nobody,
}

impl<S: Service<Req>, Req, C, Q> ResponseFuture<S, Req, C, Q> {
    #[inline(always)]
    pub(super) fn new(first: S::Future, spare: Spare<S, Req, C, Q>, shared: Arc<Shared>) -> Self {
        Self { first: Some(first), spare, rest: Rest(Holder::First(shared)) }
    }
}

impl<S: Service<Req>, Req, C, Q> Rest<S, Req, C, Q> {
    #[inline(always)]
    fn take(&mut self) -> Holder<S, Req, C, Q> {
        mem::replace(&mut self.0, Holder::Nobody)
    }
}

impl<S: Service<Req>, Req, C, Q> Drop for Rest<S, Req, C, Q> {
    #[inline]
    fn drop(&mut self) {
        match self.take() {
            Holder::Nobody => {}
            holder => abandon(holder),
        }
    }
}

#[inline(never)]
fn abandon<S: Service<Req>, Req, C, Q>(holder: Holder<S, Req, C, Q>) {
    drop(holder);
}

impl<S, Req, C, Q> Future for ResponseFuture<S, Req, C, Q>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + Clone,
    Q: CloneRequest<Req> + Clone,
{
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Holder::First(_) = this.rest.0 {
            let Some(first) = this.first.as_mut().as_pin_mut() else { return Poll::Pending };
            let Poll::Ready(result) = first.poll(cx) else { return Poll::Pending };
            let failed = this.spare.classify.classify(&result) == Outcome::Failure;
            let Holder::First(shared) = this.rest.take() else { return Poll::Pending };
            if !failed {
                return Poll::Ready(result);
            }
            match Again::after(this.spare.take(), shared, result) {
                Ok(again) => this.rest.0 = Holder::Again(again),
                Err(result) => return Poll::Ready(result),
            }
            this.first.set(None);
        }
        match &mut this.rest.0 {
            Holder::Again(again) => again.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }
}

impl<S: Service<Req>, Req, C, Q> fmt::Debug for ResponseFuture<S, Req, C, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempt = match &self.rest.0 {
            Holder::Again(again) => again.attempt(),
            _ => 1,
        };
        f.debug_struct("ResponseFuture").field("attempt", &attempt).finish_non_exhaustive()
    }
}
