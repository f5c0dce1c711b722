//! A handler that runs with a claim.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;

use super::holding::Holding;
use super::renewal::{Renewal, Standing};
use super::settle::{Ending, Settled, Settling};
use super::tape::{Kept, Recorded, Tape};
use super::transactional::{Begun, Written};
use crate::machinery::caught::caught;
use crate::machinery::ended::polled_after_completion;
use crate::machinery::guard::OnUnwind;
use crate::vocabulary::error::Error;

pin_project! {
    /// Runs a handler to its end and settles its claim. The claim is renewed meanwhile.
    pub(super) struct Running<F, T, Res, E>
    where
        T: Tape<Res, E>,
    {
        #[pin]
        stage: Stage<F, T::Recording, T::Value, Result<Res, E>>,
        // Made at the first `Pending`: a timer costs more than everything else here.
        renewal: Option<Pin<Box<Renewal>>>,
        // When the claim was requested. `None` if it was requested when this was made, without a
        // clock read.
        since: Option<Instant>,
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

impl<F, T, Res, E> Running<F, T, Res, E>
where
    T: Tape<Res, E>,
{
    /// Creates the run of a handler's `future`.
    #[inline(always)]
    pub(super) fn new(
        future: F,
        holding: Holding<T::Value>,
        begun: Option<Arc<Begun<T::Value>>>,
        tape: T,
        since: Option<Instant>,
    ) -> Self {
        Self { stage: Stage::Handling { future }, renewal: None, since, holding, begun, tape }
    }
}

impl<F, T, Res, E> Future for Running<F, T, Res, E>
where
    F: Future<Output = Result<Res, E>>,
    T: Tape<Res, E>,
    T::Value: Clone + Send + 'static,
{
    /// The answer, or the refusal that replaces it.
    type Output = Result<Result<Res, E>, Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if this.renewal.is_some() || this.since.is_some() {
                let (since, begun) = (*this.since, this.begun.as_ref());
                let confirmed = Renewal::confirm(this.renewal, since, this.holding, begun, cx);
                if let Err(error) = ready!(confirmed) {
                    // A call that lost its key must stop.
                    this.stage.set(Stage::Over);
                    this.holding.end();
                    return Poll::Ready(Err(error));
                }
            }
            // The code of the user may panic. The key is then treated like the key of an abandoned
            // call.
            let unwind = OnUnwind::give_back(this.holding);
            match this.stage.as_mut().project() {
                StageProj::Handling { future } => {
                    if let Poll::Ready(answer) = future.poll(cx) {
                        let recording = this.tape.record(answer);
                        unwind.disarm();
                        // Drops the handler. A panic of its drop must not lose the answer: the handler would run again.
                        let _drop = caught(|| this.stage.set(Stage::Recording { recording }));
                        continue;
                    }
                }
                StageProj::Recording { recording } => {
                    if let Poll::Ready(Recorded { answer, value }) = recording.poll(cx) {
                        let ending = ending(this.begun.as_deref(), &answer, value);
                        unwind.disarm();
                        let Some(shared) = this.holding.end() else { ended() };
                        let owner = this.holding.owner();
                        let renewal = this.renewal.as_ref();
                        if renewal.is_some_and(|renewal| renewal.standing == Standing::Lost) {
                            // The loss was counted and reported when it was detected.
                            return Poll::Ready(Ok(answer));
                        }
                        match shared.settle_now(owner, ending) {
                            Ok(settled) => {
                                return Poll::Ready(answered(settled, this.tape, answer));
                            }
                            Err(ending) => {
                                let settling = Settling::begin(shared, owner.clone(), ending);
                                let next = Stage::Settling { settling, answer: Some(answer) };
                                let _drop = caught(|| this.stage.set(next));
                                continue;
                            }
                        }
                    }
                }
                StageProj::Settling { settling, answer } => {
                    unwind.disarm();
                    let settled = ready!(settling.poll(cx));
                    let Some(answer) = answer.take() else { ended() };
                    this.stage.set(Stage::Over);
                    return Poll::Ready(answered(settled, this.tape, answer));
                }
                StageProj::Over => {
                    unwind.disarm();
                    ended();
                }
            }
            unwind.disarm();
            let begun = this.begun.as_ref();
            let error = ready!(Renewal::poll(this.renewal, *this.since, this.holding, begun, cx));
            // A call that lost its key must stop.
            this.stage.set(Stage::Over);
            this.holding.end();
            return Poll::Ready(Err(error));
        }
    }
}

#[cold]
fn ended() -> ! {
    polled_after_completion("idempotency::ResponseFuture")
}

/// Returns how a handler ended that returned `answer`. `value` is the value to store.
#[inline]
fn ending<Res, E, V>(
    begun: Option<&Begun<V>>,
    answer: &Result<Res, E>,
    value: Kept<V>,
) -> Ending<V> {
    let (stored, fenced) = begun.map_or((None, false), Begun::take);
    match (stored, answer, value) {
        // An earlier value may be committed, although a later completion was refused.
        (Some(_), Err(_), _) => Ending::InDoubt { fenced },
        (Some(_), Ok(_), _) if fenced => Ending::InDoubt { fenced },
        (Some((stored, Written::Surely)), Ok(_), _) => Ending::Committed(stored),
        // If it is stored already, the store accepts the repetition.
        (Some((_, Written::Perhaps)), Ok(_), Kept::Value(value)) => Ending::Keep(value),
        (Some((stored, Written::Perhaps)), Ok(_), _) => Ending::Keep(stored),
        (None, _, Kept::Value(value)) => Ending::Keep(value),
        (None, _, Kept::Failed) if fenced => Ending::Fenced,
        (None, _, Kept::Failed) => Ending::Failed,
        (None, _, Kept::Lost) => Ending::Lost,
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

impl<F, T: Tape<Res, E>, Res, E> fmt::Debug for Running<F, T, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("holding", &self.holding).finish_non_exhaustive()
    }
}
