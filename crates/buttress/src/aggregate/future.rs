use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::list::{Calls, PartList};
use super::missing::Parts;
use super::part::{Failed, Turn};
use super::shared::{Counter, Shared};
use super::state::{End, Progress};
use crate::machinery::ended::polled_after_completion;
use crate::machinery::guard::{Guard, OnUnwind};
use crate::time_limit::Countdown;
use crate::vocabulary::error::Error;

pin_project! {
    /// The response of an [`Aggregate`](super::Aggregate). Dropping it cancels the calls of all parts.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<P, Req>
    where
        P: PartList<Req>,
    {
        #[pin]
        calls: P::Calls,
        progress: Progress,
        // `None` once the call is over.
        countdown: Option<Countdown>,
        shared: Arc<Shared>,
    }
}

impl<P: PartList<Req>, Req> ResponseFuture<P, Req> {
    #[inline(always)]
    pub(super) fn new(
        calls: P::Calls,
        progress: Progress,
        countdown: Countdown,
        shared: Arc<Shared>,
    ) -> Self {
        Self { calls, progress, countdown: Some(countdown), shared }
    }
}

/// The calls of all parts, which a panic ends immediately.
struct Open<'a, C, E>(Pin<&'a mut C>, PhantomData<fn() -> E>);

impl<C: Calls<E>, E> Guard for Open<'_, C, E> {
    fn give_back(&mut self) {
        self.0.as_mut().clear();
    }
}

impl<P, Req> Future for ResponseFuture<P, Req>
where
    P: PartList<Req, Error: From<Error>>,
{
    type Output = Result<Parts<P::Values>, P::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(countdown) = this.countdown else {
            polled_after_completion("aggregate::ResponseFuture")
        };
        let mut open = Open(this.calls, PhantomData);
        let mut unwind = OnUnwind::give_back(&mut open);
        let calls = &mut unwind.guard().0;
        let mut turn = Turn { shared: this.shared, progress: this.progress, failed: None };
        calls.as_mut().poll(cx, &mut turn);
        if turn.failed.is_none() && !turn.progress.is_done() {
            // A part that is ready at the end of the limit has won.
            if countdown.poll_over(cx).is_pending() {
                unwind.disarm();
                return Poll::Pending;
            }
            match turn.progress.over() {
                End::Partial => calls.as_mut().close(&mut turn),
                End::TimedOut(place) => {
                    let reason = calls.as_ref().get_ref().open(place);
                    turn.failed = Some((place, Failed::TimedOut(reason)));
                }
            }
        }
        let ended = match turn.failed.take() {
            None => Ok(calls.as_mut().take()),
            Some(failed) => {
                calls.as_mut().clear();
                Err(failed)
            }
        };
        unwind.disarm();
        let countdown = this.countdown.take();
        match ended {
            Ok(values) => {
                let progress = *this.progress;
                let missing = match progress.missing() {
                    0 => Vec::new(),
                    _ => this.shared.partial(progress),
                };
                // Each part has its value, because none is open.
                let Some(values) = values else {
                    polled_after_completion("aggregate::ResponseFuture")
                };
                Poll::Ready(Ok(Parts::new(P::values(values), missing)))
            }
            Err((place, failed)) => Poll::Ready(Err(fail(this.shared, countdown, place, failed))),
        }
    }
}

/// Counts and reports the end of a call without an answer, and returns its error.
///
/// # Panics
/// With the panic of a required part.
#[cold]
fn fail<E: From<Error>>(
    shared: &Shared,
    countdown: Option<Countdown>,
    place: usize,
    failed: Failed<E>,
) -> E {
    shared.counters.add(Counter::Failed);
    shared.missing(place, failed.reason());
    match failed {
        Failed::Error(error) => error,
        Failed::Panic(panic) => std::panic::resume_unwind(panic),
        Failed::TimedOut(_) => match countdown {
            Some(countdown) => E::from(countdown.time_out()),
            None => polled_after_completion("aggregate::ResponseFuture"),
        },
    }
}

impl<P: PartList<Req>, Req> fmt::Debug for ResponseFuture<P, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("progress", &self.progress).finish_non_exhaustive()
    }
}
