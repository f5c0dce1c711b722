use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use super::again::{Again, Spare};
use super::clone_request::CloneRequest;
use super::shared::Shared;
use crate::machinery::ended::polled_after_completion;
use crate::machinery::own::{Counted, Own};
use crate::vocabulary::classify::{Classify, Outcome};

pin_project! {
    /// The response of a [`Retry`](super::Retry). Dropping it cancels the current attempt, and no
    /// other attempt follows.
    ///
    /// It holds the first attempt. Further attempts are boxed after the first one failed, so a call
    /// that needs none of them is small and allocates nothing.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, C, Q, O = Counted>
    where
        S: Service<Req>,
        O: Own,
    {
        // `None` once it has failed: it is dropped before any wait.
        #[pin]
        first: Option<S::Future>,
        spare: Spare<S, Req, C, Q>,
        rules: Rules<O::Of<Shared>>,
        again: Option<Pin<Box<Again<S, Req, C, Q, O>>>>,
    }
}

/// The rules, which the first attempt holds while it runs. They are dropped out of line, so that
/// dropping the future of a successful call only compares one word.
struct Rules<H>(Option<H>);

impl<H> Drop for Rules<H> {
    #[inline]
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            give_up(shared);
        }
    }
}

#[inline(never)]
fn give_up<H>(shared: H) {
    drop(shared);
}

impl<S: Service<Req>, Req, C, Q, O: Own> ResponseFuture<S, Req, C, Q, O> {
    #[inline(always)]
    pub(super) fn new(first: S::Future, spare: Spare<S, Req, C, Q>, shared: O::Of<Shared>) -> Self {
        Self { first: Some(first), spare, rules: Rules(Some(shared)), again: None }
    }
}

impl<S, Req, C, Q, O> Future for ResponseFuture<S, Req, C, Q, O>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + Clone,
    Q: CloneRequest<Req> + Clone,
    O: Own,
{
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.rules.0.is_some() {
            let Some(first) = this.first.as_mut().as_pin_mut() else { ended() };
            let Poll::Ready(result) = first.poll(cx) else { return Poll::Pending };
            let failed = this.spare.classify.classify(&result) == Outcome::Failure;
            let Some(shared) = this.rules.0.take() else { ended() };
            if !failed {
                return Poll::Ready(result);
            }
            match Again::after(this.spare.take(), shared, result) {
                Ok(again) => *this.again = Some(again),
                Err(result) => return Poll::Ready(result),
            }
            this.first.set(None);
        }
        let Some(again) = this.again else { ended() };
        let result = ready!(again.as_mut().poll(cx));
        *this.again = None;
        Poll::Ready(result)
    }
}

#[cold]
fn ended() -> ! {
    polled_after_completion("retry::ResponseFuture")
}

impl<S: Service<Req>, Req, C, Q, O: Own> fmt::Debug for ResponseFuture<S, Req, C, Q, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempt = self.again.as_ref().map_or(1, |again| again.attempt());
        f.debug_struct("ResponseFuture").field("attempt", &attempt).finish_non_exhaustive()
    }
}
