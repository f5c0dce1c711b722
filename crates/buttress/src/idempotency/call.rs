//! A call that cannot be answered without waiting: for the store, for another call with its key, or
//! for its handler.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;
use tower::Service;

use super::handler::{Entry, Handler, Runs, Work};
use super::holding::Holding;
use super::owning::{Begin, Owned, Owning, own};
use super::running::Running;
use super::settle::Ending;
use super::shared::Shared;
use super::tape::Tape;
use super::transactional::{Form, sealed};
use crate::machinery::ended::polled_after_completion;
use crate::machinery::guard::{Guard, OnUnwind};
use crate::vocabulary::error::{Error, ErrorKind};

/// The parts of a call that it needs until its handler begins.
pub(super) struct Call<S, Req, T, M, V> {
    pub shared: Arc<Shared<V>>,
    pub service: S,
    /// `true` if `service` was polled ready.
    pub ready: bool,
    pub request: Req,
    pub tape: T,
    pub form: M,
}

// Written by hand, and not a boxed `dyn Future`, which needs `S: 'static`. The compiler's `Send` check
// of an async block erases `'static` from a boxed service.
pin_project! {
    /// A call of an [`Idempotency`](super::Idempotency) service that waits before its handler
    /// begins, or whose handler runs on a separate task. It is public because it is part of the
    /// type of a response future.
    #[must_use = "futures do nothing unless polled"]
    pub struct Waiting<S, Req, T, M, V>
    where
        M: Form<Req, V>,
        M: Runs<S, <M as Form<Req, V>>::Request, T>,
        S: Service<<M as Form<Req, V>>::Request>,
        T: Tape<S::Response, S::Error, Value = V>,
    {
        // Before `call`, so that it is dropped first.
        #[pin]
        stage: Stage<V, M::Run>,
        // `None` once the handler has begun, or will not.
        call: Option<Call<S, Req, T, M, V>>,
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<V, W> {
        // Until the call has its key, or an answer.
        Owning { owning: Owning<V> },
        // There is no place for its handler: the key is freed.
        GivingUp { giving_up: Option<GivingUp>, kind: ErrorKind, shared: Arc<Shared<V>> },
        Working { #[pin] work: W },
        Over,
    }
}

/// The rest of [`give_up`], boxed.
type GivingUp = Pin<Box<dyn Future<Output = ()> + Send>>;

type Answer<S, Q> = Result<<S as Service<Q>>::Response, <S as Service<Q>>::Error>;

impl<S, Req, T, M, V> Waiting<S, Req, T, M, V>
where
    M: Form<Req, V> + Runs<S, <M as Form<Req, V>>::Request, T>,
    S: Service<<M as Form<Req, V>>::Request>,
    T: Tape<S::Response, S::Error, Value = V>,
    V: Clone + Send + 'static,
{
    /// Creates the call that continues from `begin`.
    pub(super) fn new(call: Call<S, Req, T, M, V>, begin: Begin<V>) -> Self {
        let owning = call.own(begin);
        Self { stage: Stage::Owning { owning }, call: Some(call) }
    }
}

impl<S, Req, T, M, V> Future for Waiting<S, Req, T, M, V>
where
    M: Form<Req, V> + Runs<S, <M as Form<Req, V>>::Request, T>,
    S: Service<<M as Form<Req, V>>::Request> + Clone,
    T: Tape<S::Response, S::Error, Value = V>,
    V: Clone + Send + 'static,
{
    type Output = Result<Answer<S, M::Request>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.stage.as_mut().project() {
                StageProj::Owning { owning } => {
                    let unwind = OnUnwind::give_back(this.call);
                    let owned = owning.as_mut().poll(cx);
                    unwind.disarm();
                    let owned = ready!(owned);
                    let Some(mut call) = this.call.take() else { ended() };
                    match owned {
                        Ok(Owned::Waits(in_line)) => {
                            call.give_back_readiness();
                            let owning = call.own(in_line);
                            *this.call = Some(call);
                            Stage::Owning { owning }
                        }
                        Ok(Owned::Run(holding, since)) => call.start(Some(holding), since),
                        Ok(Owned::RunUnprotected) => call.start(None, None),
                        Ok(Owned::Replay(value)) => {
                            this.stage.set(Stage::Over);
                            return Poll::Ready(Ok(call.tape.replay(value)));
                        }
                        Err(error) => {
                            this.stage.set(Stage::Over);
                            return Poll::Ready(Err(error));
                        }
                    }
                }
                StageProj::GivingUp { giving_up, kind, shared } => {
                    if let Some(giving_up) = giving_up {
                        ready!(giving_up.as_mut().poll(cx));
                    }
                    let error = shared.refuse(*kind, None);
                    this.stage.set(Stage::Over);
                    return Poll::Ready(Err(error));
                }
                StageProj::Working { work } => {
                    let answer = ready!(work.poll(cx));
                    this.stage.set(Stage::Over);
                    return Poll::Ready(answer);
                }
                StageProj::Over => ended(),
            };
            this.stage.set(next);
        }
    }
}

impl<S, Req, T, M, V: Clone + Send + 'static> Call<S, Req, T, M, V> {
    fn own(&self, begin: Begin<V>) -> Owning<V> {
        Box::pin(own(self.shared.clone(), begin))
    }

    /// Releases the readiness of the inner service, because a waiting call must reserve nothing in
    /// it.
    fn give_back_readiness(&mut self)
    where
        S: Clone,
    {
        if std::mem::take(&mut self.ready) {
            let fresh = self.service.clone();
            drop(std::mem::replace(&mut self.service, fresh));
        }
    }

    /// Begins the handler, under `holding` whose lease was requested at `since`, or unprotected.
    fn start(self, holding: Option<Holding<V>>, since: Option<Instant>) -> Stage<V, M::Run>
    where
        M: Form<Req, V> + Runs<S, <M as Form<Req, V>>::Request, T>,
        S: Service<<M as Form<Req, V>>::Request>,
        T: Tape<S::Response, S::Error, Value = V>,
    {
        let Self { shared, service, ready, request, tape, form } = self;
        let (request, handed) = form.form(request, sealed::Held(holding.as_ref()));
        let handler = Handler::new(service, ready, request);
        let entered = match M::DETACHED.then(|| shared.tasks.enter()).transpose() {
            Ok(entered) => entered,
            Err(kind) => {
                drop(handler);
                let giving_up = holding.map(|holding| Box::pin(give_up(holding)) as GivingUp);
                return Stage::GivingUp { giving_up, kind, shared };
            }
        };
        let work = match holding {
            Some(holding) => {
                let running = Running::new(handler, holding, handed.0, tape, since);
                Work::Protected { running }
            }
            None => Work::Unprotected { handler },
        };
        Stage::Working { work: M::run(work, Entry { shared, entered }) }
    }
}

/// Releases the readiness of the inner service together with the service.
impl<S, Req, T, M, V> Guard for Option<Call<S, Req, T, M, V>> {
    fn give_back(&mut self) {
        *self = None;
    }
}

/// Releases a key whose handler has not begun.
async fn give_up<V: Clone + Send + 'static>(mut holding: Holding<V>) {
    let Some(shared) = holding.end() else { return };
    let owner = holding.owner().clone();
    if shared.settle_now(&owner, Ending::Failed).is_err() {
        shared.settle(owner, Ending::Failed).await;
    }
}

#[cold]
fn ended() -> ! {
    polled_after_completion("idempotency::ResponseFuture")
}

impl<S, Req, T, M, V> fmt::Debug for Waiting<S, Req, T, M, V>
where
    M: Form<Req, V> + Runs<S, <M as Form<Req, V>>::Request, T>,
    S: Service<<M as Form<Req, V>>::Request>,
    T: Tape<S::Response, S::Error, Value = V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("begun", &self.call.is_none()).finish_non_exhaustive()
    }
}
