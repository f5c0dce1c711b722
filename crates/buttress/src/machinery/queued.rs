//! The service of a limiter in its queued mode: a call waits for its turn in its response future.

mod future;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tower::Service;

use crate::machinery::reconfigure::HasHandle;
use crate::machinery::waiting::{Limiter, Outlook, Waiting};
use crate::vocabulary::cost::{Cost, OneToken};
use crate::vocabulary::reject::Reject;
use crate::vocabulary::until::{Until, UntilResponse};

pub(crate) use future::QueuedFuture;

/// A service behind a limiter whose calls may wait in its queue.
///
/// `poll_ready` polls the inner service only if the call would be admitted now. A waiting call
/// holds an unpolled clone of the inner service, without a reservation. When it is admitted, it
/// holds its permit or tokens, and
/// polls a clone of the inner service until that clone is ready.
pub struct QueuedService<S, L, R, W = OneToken, U = UntilResponse> {
    inner: S,
    shared: Arc<L>,
    reject: R,
    cost: W,
    until: U,
    /// The forecast of the last `poll_ready` for the next `call` on this value.
    next: Next,
    /// `true` if `inner` was polled, and so may hold reservations.
    asked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// The call will be refused.
    Refused,
    /// The inner service must be polled first.
    Unready,
    /// The inner service is ready.
    Ready,
}

impl<S, L, R, W, U> QueuedService<S, L, R, W, U> {
    pub(crate) fn new(inner: S, shared: Arc<L>, reject: R, cost: W, until: U) -> Self {
        Self { inner, shared, reject, cost, until, next: Next::Unready, asked: false }
    }
}

impl<S, L: Limiter + HasHandle, R, W, U> QueuedService<S, L, R, W, U> {
    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> L::Handle {
        self.shared.handle()
    }
}

impl<S: Clone, L, R, W, U> QueuedService<S, L, R, W, U> {
    /// Releases the reservations of the inner service: a clone starts without any.
    fn release(&mut self) {
        if std::mem::take(&mut self.asked) {
            self.inner = self.inner.clone();
        }
    }
}

impl<S, L, R, W, U, Req> Service<Req> for QueuedService<S, L, R, W, U>
where
    S: Service<Req> + Clone,
    L: Limiter,
    R: Reject<S::Response, S::Error> + Clone,
    W: Cost<Req>,
    U: Until<S::Response> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = QueuedFuture<S, Req, L, R, U>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.next = match self.shared.outlook() {
            Outlook::Admitted => {
                self.next = Next::Unready;
                self.asked = true;
                ready!(self.inner.poll_ready(cx))?;
                Next::Ready
            }
            Outlook::Waits => Next::Unready,
            Outlook::Refused => Next::Refused,
        };
        if self.next != Next::Ready {
            self.release();
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let cost = self.cost.cost(&request);
        let next = std::mem::replace(&mut self.next, Next::Unready);
        let asked = match next {
            Next::Refused => Err(self.shared.refuse_as_foreseen(cost)),
            Next::Unready | Next::Ready => self.shared.take_or_wait(cost),
        };
        match asked {
            Ok(Waiting::Done(pass)) if next == Next::Ready => {
                let held = L::begin(pass);
                self.asked = false;
                QueuedFuture::running(self.inner.call(request), held, self.until.clone())
            }
            Ok(waiting) => {
                self.release();
                let (service, reject) = (self.inner.clone(), self.reject.clone());
                QueuedFuture::waiting(waiting, service, request, reject, self.until.clone())
            }
            Err(error) => QueuedFuture::refused(error, self.reject.clone()),
        }
    }
}

impl<S: Clone, L, R: Clone, W: Clone, U: Clone> Clone for QueuedService<S, L, R, W, U> {
    fn clone(&self) -> Self {
        let (reject, cost, until) = (self.reject.clone(), self.cost.clone(), self.until.clone());
        Self::new(self.inner.clone(), self.shared.clone(), reject, cost, until)
    }
}

impl<S: fmt::Debug, L: Limiter + HasHandle, R, W, U> fmt::Debug for QueuedService<S, L, R, W, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedService")
            .field("inner", &self.inner)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
