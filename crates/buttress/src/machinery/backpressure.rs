//! The service of a limiter in its backpressure mode: it is ready only while it holds a permit or a
//! token.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tower::Service;

use crate::machinery::limited::ResponseFuture;
use crate::machinery::reconfigure::HasHandle;
use crate::machinery::waiting::{Limiter, Waiting};
use crate::vocabulary::reject::Reject;
use crate::vocabulary::until::{Until, UntilResponse};

/// A service behind a limiter that is ready only while it holds a permit or a token.
///
/// The next `call` uses the permit or token that `poll_ready` reserved. Dropping the service
/// returns it. A clone starts without one.
pub struct BackpressureService<S, L: Limiter, R, U = UntilResponse> {
    inner: S,
    shared: Arc<L>,
    reject: R,
    until: U,
    reserved: Option<Waiting<L>>,
}

impl<S, L: Limiter, R, U> BackpressureService<S, L, R, U> {
    pub(crate) fn new(inner: S, shared: Arc<L>, reject: R, until: U) -> Self {
        Self { inner, shared, reject, until, reserved: None }
    }

    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> L::Handle
    where
        L: HasHandle,
    {
        self.shared.handle()
    }

    /// Polls the reservation, or makes one. `None` if the limiter refuses.
    fn poll_reserved(&mut self, cx: &mut Context<'_>) -> Poll<Option<L::Pass>> {
        let asked = self.reserved.take().map_or_else(|| self.shared.take_or_park(), Ok);
        let mut place = match asked {
            Ok(Waiting::Done(pass)) => return Poll::Ready(Some(pass)),
            Ok(Waiting::Queued(place)) => place,
            Err(_) => return Poll::Ready(None),
        };
        let settled = place.poll(cx);
        if settled.is_pending() {
            self.reserved = Some(Waiting::Queued(place));
        }
        settled.map(Result::ok)
    }
}

impl<S, L, R, U, Req> Service<Req> for BackpressureService<S, L, R, U>
where
    S: Service<Req>,
    L: Limiter,
    R: Reject<S::Response, S::Error> + Clone,
    U: Until<S::Response> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, L::Held, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The permit comes first, as in tower's own limit: it stays reserved while the inner
        // service is pending. An error or a panic of the inner service returns it.
        let pass = ready!(self.poll_reserved(cx));
        let ready = self.inner.poll_ready(cx);
        if !matches!(ready, Poll::Ready(Err(_))) {
            self.reserved = pass.map(Waiting::Done);
        }
        ready
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let held = match self.reserved.take() {
            Some(Waiting::Done(pass)) => Ok(L::begin(pass)),
            // The caller skipped `poll_ready`: the call is admitted only if there is room.
            reserved => {
                drop(reserved);
                self.shared.take()
            }
        };
        match held {
            Ok(held) => ResponseFuture::running(self.inner.call(request), held, self.until.clone()),
            Err(error) => ResponseFuture::refused(error, self.reject.clone()),
        }
    }
}

impl<S: Clone, L: Limiter, R: Clone, U: Clone> Clone for BackpressureService<S, L, R, U> {
    fn clone(&self) -> Self {
        let (reject, until) = (self.reject.clone(), self.until.clone());
        Self::new(self.inner.clone(), self.shared.clone(), reject, until)
    }
}

impl<S: fmt::Debug, L: Limiter + HasHandle, R, U> fmt::Debug for BackpressureService<S, L, R, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackpressureService")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
