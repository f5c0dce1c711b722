//! A handler that runs under a claim.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;

use super::backend::Op;
use super::claim::Begun;
use super::config::LostClaim;
use super::settle::{Ending, Settled, Settling};
use super::shared::{Holding, Shared};
use super::tape::{Recorded, Tape};
use crate::clock::{self, Sleep};
use crate::error::Error;
use crate::guard::OnUnwind;
use crate::store_error::StoreError;

pin_project! {
    /// Runs a handler to its end and settles its claim, which is renewed meanwhile.
    pub(super) struct Running<F, T, Res, E>
    where
        T: Tape<Res, E>,
    {
        #[pin]
        stage: Stage<F, T::Recording, T::Value, Result<Res, E>>,
        #[pin]
        renewal: Renewal<T::Value>,
        holding: Holding<T::Value>,
        begun: Option<Arc<Begun<T::Value>>>,
        tape: T,
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<F, Rec, V, A> {
        Handling { #[pin] future: F },
        Recording { #[pin] recording: Rec },
        Settling { #[pin] settling: Settling<V>, answer: Option<A> },
        Over,
    }
}

pin_project! {
    /// When a claim is renewed.
    struct Renewal<V> {
        // When the claim was made or last renewed.
        since: Instant,
        // Made at the first `Pending`: a timer costs more than everything else here.
        #[pin]
        timer: Option<Sleep>,
        asking: Option<Op<()>>,
        // Somebody else has the key, and the handler runs on.
        lost: bool,
        value: std::marker::PhantomData<fn() -> V>,
    }
}

impl<F, T, Res, E> Running<F, T, Res, E>
where
    T: Tape<Res, E>,
{
    /// `future` is the handler's, `since` when the claim was made.
    #[inline]
    pub(super) fn new(
        future: F,
        holding: Holding<T::Value>,
        begun: Option<Arc<Begun<T::Value>>>,
        tape: T,
        since: Instant,
    ) -> Self {
        let value = std::marker::PhantomData;
        let renewal = Renewal { since, timer: None, asking: None, lost: false, value };
        Self { stage: Stage::Handling { future }, renewal, holding, begun, tape }
    }
}

impl<F, T, Res, E> Future for Running<F, T, Res, E>
where
    F: Future<Output = Result<Res, E>>,
    T: Tape<Res, E>,
    T::Value: Clone + Send + 'static,
{
    /// The answer, or the refusal that takes its place.
    type Output = Result<Result<Res, E>, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            // The user's code: a panic leaves the key as one that was abandoned.
            let unwind = OnUnwind::give_back(this.holding);
            match this.stage.as_mut().project() {
                StageProj::Handling { future } => {
                    if let Poll::Ready(answer) = future.poll(cx) {
                        let recording = this.tape.record(answer);
                        unwind.disarm();
                        this.stage.set(Stage::Recording { recording });
                        continue;
                    }
                }
                StageProj::Recording { recording } => {
                    if let Poll::Ready(Recorded { answer, value }) = recording.poll(cx) {
                        let ending = ending(this.begun.as_deref(), &answer, value);
                        unwind.disarm();
                        let Some(shared) = this.holding.end() else { return Poll::Pending };
                        let (identity, claim) = (this.holding.identity(), this.holding.claim());
                        if this.renewal.lost {
                            // It was counted and told when that was found out.
                            this.stage.set(Stage::Over);
                            return Poll::Ready(Ok(answer));
                        }
                        match shared.settle_now(identity, claim, ending) {
                            Ok(settled) => {
                                this.stage.set(Stage::Over);
                                return Poll::Ready(answered(settled, this.tape, answer));
                            }
                            Err(ending) => {
                                let identity = identity.clone();
                                let settling = Settling::begin(shared, identity, claim, ending);
                                let answer = Some(answer);
                                this.stage.set(Stage::Settling { settling, answer });
                                continue;
                            }
                        }
                    }
                }
                StageProj::Settling { settling, answer } => {
                    unwind.disarm();
                    let settled = ready!(settling.poll(cx));
                    let Some(answer) = answer.take() else { return Poll::Pending };
                    this.stage.set(Stage::Over);
                    return Poll::Ready(answered(settled, this.tape, answer));
                }
                StageProj::Over => {
                    unwind.disarm();
                    return Poll::Pending;
                }
            }
            unwind.disarm();
            let error = ready!(this.renewal.poll(this.holding, cx));
            // Whoever lost its key must stop.
            this.stage.set(Stage::Over);
            this.holding.end();
            return Poll::Ready(Err(error));
        }
    }
}

/// How a handler ended that returned `answer`, of which `value` is to be stored.
#[inline]
fn ending<Res, E, V>(
    begun: Option<&Begun<V>>,
    answer: &Result<Res, E>,
    value: Option<V>,
) -> Ending<V> {
    match (begun.and_then(Begun::take), answer, value) {
        (Some(stored), Ok(_), _) => Ending::Committed(stored),
        (Some(_), Err(_), _) => Ending::InDoubt,
        (None, _, Some(value)) => Ending::Keep(value),
        (None, _, None) => Ending::Failed,
    }
}

#[inline]
fn answered<Res, E, T: Tape<Res, E>>(
    settled: Settled<T::Value>,
    tape: &T,
    answer: Result<Res, E>,
) -> Result<Result<Res, E>, Error> {
    match settled {
        Settled::Answer => Ok(answer),
        Settled::Stored(value) => Ok(tape.replay(value)),
        Settled::Lost(error) => Err(error),
    }
}

impl<V> Renewal<V> {
    /// Renews the claim when it is time. Ready if it was lost, with the refusal.
    fn poll(self: Pin<&mut Self>, holding: &Holding<V>, cx: &mut Context<'_>) -> Poll<Error> {
        let mut this = self.project();
        let Some(shared) = holding.shared() else { return Poll::Pending };
        while !*this.lost {
            let renewed = match this.asking {
                Some(asking) => {
                    let renewed = ready!(asking.as_mut().poll(cx));
                    *this.asking = None;
                    renewed
                }
                None => {
                    if this.timer.is_none() {
                        let at = clock::after(*this.since, shared.config.lease / 3);
                        this.timer.set(Some(shared.config.common.clock.sleep_until(at)));
                    }
                    let Some(timer) = this.timer.as_mut().as_pin_mut() else {
                        return Poll::Pending;
                    };
                    ready!(timer.poll(cx));
                    let (identity, claim) = (holding.identity(), holding.claim());
                    let lease = shared.config.lease;
                    *this.since = shared.now();
                    match shared.store.at_once() {
                        Some(store) => store.renew_now(&identity.key, claim, lease),
                        None => {
                            let store = shared.store.clone();
                            let asking = store.begin_renew(identity.clone(), claim, lease);
                            *this.asking = Some(asking);
                            continue;
                        }
                    }
                }
            };
            match next(shared, holding, *this.since, renewed) {
                Ok(at) => {
                    if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                        timer.reset(at);
                    }
                }
                Err(error) => {
                    *this.lost = true;
                    if shared.config.lost_claim == LostClaim::Refuse {
                        return Poll::Ready(error);
                    }
                }
            }
        }
        Poll::Pending
    }
}

/// When to renew again, after a renewal that was asked for at `since`.
fn next<V>(
    shared: &Shared<V>,
    holding: &Holding<V>,
    since: Instant,
    renewed: Result<(), StoreError>,
) -> Result<Instant, Error> {
    let third = shared.config.lease / 3;
    let key = &holding.identity().key;
    match renewed {
        Ok(()) => {
            let until = clock::after(since, shared.config.lease);
            shared.lines.renewed(key, holding.claim(), until);
            Ok(clock::after(since, third))
        }
        Err(error) if error.is_fenced() => {
            shared.lines.left(key, holding.claim());
            Err(shared.fenced())
        }
        Err(error) => {
            shared.store_failed("renew", &error);
            Ok(clock::after(shared.now(), third.min(shared.config.poll_interval)))
        }
    }
}

impl<F, T: Tape<Res, E>, Res, E> fmt::Debug for Running<F, T, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("holding", &self.holding).finish_non_exhaustive()
    }
}
