use std::task::{Context, Poll};

use tower::Service;

use super::admission::Admission;
use super::future::ResponseFuture;
use super::handle::Handle;
use super::shared::Shared;
use super::state::Ticket;
use crate::machinery::own::{Counted, Own, service_over};
use crate::machinery::wakers::Owner;
use crate::vocabulary::classify::Classify;
use crate::vocabulary::error::RetryAfter;
use crate::vocabulary::reject::Reject;
use crate::vocabulary::until::{Until, UntilResponse};

service_over! {
    /// A service behind a circuit breaker that refuses without waiting.
    /// [`CircuitBreakerLayer`](super::CircuitBreakerLayer) makes it.
    pub struct CircuitBreaker<S, C, R, O: Own = Counted, U = UntilResponse> {
        classify: C, reject: R, until: U;
        aside: Aside = Aside::Nothing
    }
}

/// State between `poll_ready` and `call`. `Nothing` on the healthy path.
enum Aside {
    Nothing,
    /// The next `call` will be refused.
    Refused,
    /// A registration for a wake while the inner service is not ready.
    Parked(Owner),
}

impl<S, C, R, O: Own, U> CircuitBreaker<S, C, R, O, U> {
    /// Out of line, and the result is not part of a future: the healthy path then needs no stack
    /// memory for it.
    #[inline(never)]
    fn admit(&mut self) -> Result<Admission<O>, RetryAfter> {
        self.put_aside(Aside::Nothing);
        let mut admission = Shared::admit::<O>(&self.shared)?;
        admission.begin();
        Ok(admission)
    }

    /// Replaces the state between `poll_ready` and `call` by `aside`.
    #[inline]
    fn put_aside(&mut self, aside: Aside) {
        if let Aside::Parked(owner) = &mut self.aside {
            self.shared.wakers.forget(owner);
        }
        self.aside = aside;
    }

    /// Checks whether a call would be refused now, and remembers a refusal.
    #[inline]
    fn would_refuse(&mut self) -> bool {
        let refused = self.shared.peek().is_some();
        if refused {
            self.put_aside(Aside::Refused);
        }
        refused
    }

    #[inline(never)]
    fn poll_inner_ready<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<Req>,
        C: Classify<S::Response, S::Error>,
    {
        if matches!(self.aside, Aside::Refused) {
            self.aside = Aside::Nothing;
        }
        let polled = Shared::watch::<O, _>(&self.shared, || self.inner.poll_ready(cx));
        if polled.is_ready() {
            self.put_aside(Aside::Nothing);
        }
        self.not_ready(polled, cx)
    }

    /// Calls the inner service. `stamp` gets the request and the ticket of its admission.
    #[inline(always)]
    pub(crate) fn call_with<Req>(
        &mut self,
        mut request: Req,
        stamp: impl FnOnce(&mut Req, Ticket),
    ) -> ResponseFuture<S::Future, C, R, O, U>
    where
        S: Service<Req>,
        C: Clone,
        R: Clone,
        U: Clone,
    {
        let closed = match self.aside {
            Aside::Nothing => Shared::admit_closed::<O>(&self.shared),
            _ => None,
        };
        let admission = match closed {
            Some(admission) => admission,
            None => {
                seldom();
                let admitted = if let Aside::Refused = self.aside {
                    self.aside = Aside::Nothing;
                    // The retry time is computed now: the refusal was seen earlier, and may be over.
                    Err(self.shared.peek().unwrap_or(RetryAfter::nanos(0)))
                } else {
                    self.admit()
                };
                match admitted {
                    Ok(admission) => admission,
                    Err(retry_after) => {
                        let error = self.shared.refuse(retry_after);
                        return ResponseFuture::refused(error, self.reject.clone());
                    }
                }
            }
        };
        stamp(&mut request, admission.ticket());
        let future = self.inner.call(request);
        let (classify, until) = (self.classify.clone(), self.until.clone());
        ResponseFuture::running(future, admission, classify, until)
    }

    /// Returns the result of `poll_ready` if the inner service may not be ready.
    #[inline(never)]
    fn not_ready<Req>(
        &mut self,
        polled: Poll<Result<(), S::Error>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), S::Error>>
    where
        S: Service<Req>,
        C: Classify<S::Response, S::Error>,
    {
        match polled {
            Poll::Ready(ready) => Poll::Ready(ready.map_err(|error| {
                settle_unready::<O, _, _, _>(&self.shared, &self.classify, error)
            })),
            Poll::Pending => {
                // A caller that waits for the inner service must be woken when the circuit opens,
                // because its call would be refused.
                let mut owner = match std::mem::replace(&mut self.aside, Aside::Nothing) {
                    Aside::Parked(owner) => owner,
                    Aside::Nothing | Aside::Refused => Owner::default(),
                };
                self.shared.wakers.register(&mut owner, cx);
                self.aside = Aside::Parked(owner);
                if self.would_refuse() { Poll::Ready(Ok(())) } else { Poll::Pending }
            }
        }
    }
}

impl<S, C, R, O, U, Req> Service<Req> for CircuitBreaker<S, C, R, O, U>
where
    S: Service<Req>,
    O: Own,
    C: Classify<S::Response, S::Error> + Clone,
    R: Reject<S::Response, S::Error> + Clone,
    U: Until<S::Response> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C, R, O, U>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The circuit is asked first. A call that will be refused then neither waits for the inner
        // service nor reserves anything in it.
        if !matches!(self.aside, Aside::Nothing) || self.shared.state.admit_closed().is_none() {
            seldom();
            if self.would_refuse() {
                return Poll::Ready(Ok(()));
            }
            return self.poll_inner_ready(cx);
        }
        match Shared::watch::<O, _>(&self.shared, || self.inner.poll_ready(cx)) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            polled => self.not_ready(polled, cx),
        }
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        self.call_with(request, |_, _| {})
    }
}

/// Marks the branch as rare for the compiler. It then keeps the registers for the others.
#[cold]
const fn seldom() {}

/// Settles a call whose inner service failed to become ready.
pub(super) fn settle_unready<O: Own, Res, E, C: Classify<Res, E>>(
    shared: &O::Of<Shared>,
    classify: &C,
    error: E,
) -> E {
    let result = Err(error);
    if let Ok(admission) = Shared::admit::<O>(shared) {
        admission.settle(classify.classify(&result), || classify.retry_after(&result));
    }
    let Err(error) = result else { unreachable!("made as an error above") };
    error
}

impl<S, C, R, O: Own, U> Drop for CircuitBreaker<S, C, R, O, U> {
    fn drop(&mut self) {
        self.put_aside(Aside::Nothing);
    }
}
