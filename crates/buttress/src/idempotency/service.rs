use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::call::{Call, Waiting};
use super::future::{Phase, ResponseFuture};
use super::handle::Handle;
use super::handler::Runs;
use super::holding::Holding;
use super::identity::Identify;
use super::owning::Begin;
use super::running::Running;
use super::shared::{Counter, Shared};
use super::store::{ClaimId, Claimed};
use super::tape::Tape;
use super::transactional::{Form, sealed};
use crate::vocabulary::error::ErrorKind;
use crate::vocabulary::reject::Reject;

/// A service that does the work of a key once. [`IdempotencyLayer`](super::IdempotencyLayer) makes
/// it.
pub struct Idempotency<S, X, V, T, R, M> {
    pub(super) inner: S,
    pub(super) shared: Arc<Shared<V>>,
    pub(super) identify: X,
    pub(super) tape: T,
    pub(super) reject: R,
    pub(super) form: M,
}

impl<S, X, V: Send + 'static, T, R, M> Idempotency<S, X, V, T, R, M> {
    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(self.shared.clone())
    }
}

impl<S, X, V, T, R, M, Req> Service<Req> for Idempotency<S, X, V, T, R, M>
where
    S: Service<<M as Form<Req, V>>::Request> + Clone,
    X: Identify<Req>,
    M: Form<Req, V> + Runs<S, <M as Form<Req, V>>::Request, T>,
    T: Tape<S::Response, S::Error, Value = V> + Clone,
    R: Reject<S::Response, S::Error> + Clone,
    V: Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Calling<S, Req, T, R, M, V>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        // Each answer is built in place of the future, because a phase is expensive to move.
        let respond = |phase| ResponseFuture::new(phase, self.reject.clone());
        let shared = &self.shared;
        let identity = match self.identify.identify(&request) {
            Ok(Some(identity)) => identity,
            Ok(None) if shared.config.key_required => {
                return respond(refused(shared.refuse(ErrorKind::KeyMissing, None)));
            }
            Ok(None) => {
                if shared.config.common.count_calls {
                    shared.counters.add(Counter::Passed);
                }
                let (request, _) = self.form.form(request, sealed::Held(None));
                return respond(Phase::Passing { future: self.inner.call(request) });
            }
            Err(error) => return respond(refused(shared.refuse_key(&error))),
        };
        let claim = ClaimId::random(&shared.config.rng);
        let Some(store) = shared.store.immediate() else {
            return self.wait(request, Begin::Unasked(identity, claim), true);
        };
        let lease = shared.config.lease;
        match store.claim_now(identity.claimed_by(claim), lease) {
            Ok(Claimed::Done(value)) => {
                shared.replayed();
                respond(Phase::Answered { answer: Some(Ok(self.tape.replay(value))) })
            }
            Ok(Claimed::Owned) => {
                let holding = Holding::new(shared, identity, claim);
                if M::DETACHED {
                    return self.wait(request, Begin::Holding(holding), true);
                }
                let (request, handed) = self.form.form(request, sealed::Held(Some(&holding)));
                // If this panics, the key is treated like the key of any other call that panics.
                let future = self.inner.call(request);
                let tape = self.tape.clone();
                respond(Phase::Running {
                    running: Running::new(future, holding, handed.0, tape, None),
                })
            }
            Ok(Claimed::NotKept) => respond(refused(shared.refuse(ErrorKind::ResultNotKept, None))),
            Ok(Claimed::Mismatch) => respond(refused(shared.refuse(ErrorKind::KeyReused, None))),
            Ok(Claimed::InFlight { lease_left }) if shared.config.refuse_in_flight => {
                respond(refused(shared.refuse_in_flight(lease_left)))
            }
            claimed => self.wait(request, Begin::Answered(identity, claim, claimed), false),
        }
    }
}

impl<S, X, V, T, R, M> Idempotency<S, X, V, T, R, M> {
    /// Returns the future of a call that has to wait. It takes the ready service along only if the
    /// call is likely to need it. Otherwise the ready service stays here.
    #[inline(never)]
    fn wait<Req>(
        &mut self,
        request: Req,
        begin: Begin<V>,
        ready: bool,
    ) -> Calling<S, Req, T, R, M, V>
    where
        S: Service<<M as Form<Req, V>>::Request> + Clone,
        M: Form<Req, V> + Runs<S, <M as Form<Req, V>>::Request, T>,
        T: Tape<S::Response, S::Error, Value = V> + Clone,
        R: Clone,
        V: Clone + Send + 'static,
    {
        let fresh = self.inner.clone();
        let service = if ready { std::mem::replace(&mut self.inner, fresh) } else { fresh };
        let (tape, form) = (self.tape.clone(), self.form.clone());
        let call = Call { shared: self.shared.clone(), service, ready, request, tape, form };
        let phase = Phase::Waiting { waiting: Box::pin(Waiting::new(call, begin)) };
        ResponseFuture::new(phase, self.reject.clone())
    }
}

/// The response of a call with a request.
type Calling<S, Req, T, R, M, V> = ResponseFuture<
    <S as Service<Inner<M, Req, V>>>::Future,
    Waiting<S, Req, T, M, V>,
    <S as Service<Inner<M, Req, V>>>::Response,
    <S as Service<Inner<M, Req, V>>>::Error,
    T,
    R,
>;

/// The request of the inner service.
type Inner<M, Req, V> = <M as Form<Req, V>>::Request;

fn refused<F, W, Res, E, T: Tape<Res, E>>(
    refusal: crate::vocabulary::error::Error,
) -> Phase<F, W, Res, E, T> {
    Phase::Answered { answer: Some(Err(refusal)) }
}

impl<S: Clone, X: Clone, V, T: Clone, R: Clone, M: Clone> Clone for Idempotency<S, X, V, T, R, M> {
    fn clone(&self) -> Self {
        let (inner, shared) = (self.inner.clone(), self.shared.clone());
        let (identify, tape) = (self.identify.clone(), self.tape.clone());
        let (reject, form) = (self.reject.clone(), self.form.clone());
        Self { inner, shared, identify, tape, reject, form }
    }
}

impl<S: fmt::Debug, X, V, T, R, M> fmt::Debug for Idempotency<S, X, V, T, R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency")
            .field("inner", &self.inner)
            .field("name", &self.shared.config.common.name)
            .finish_non_exhaustive()
    }
}
