//! A part of an aggregate: required or optional, and the run of one call.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::Service;

use super::missing::Missing;
use super::shared::Shared;
use super::state::Progress;
use crate::machinery::caught::{Panic, caught, discard};
use crate::machinery::oneshot::Oneshot;
use crate::vocabulary::observe::Absence;

mod sealed {
    pub trait Sealed {}
}
pub(super) use sealed::Sealed;

/// A part without which there is no answer. [`Builder::required`](super::Builder::required) makes it.
#[derive(Clone, Copy)]
pub struct Required<S>(pub(super) S);

/// A part whose absence the answer states. [`Builder::optional`](super::Builder::optional) makes it.
#[derive(Clone, Copy)]
pub struct Optional<S>(pub(super) S);

/// The error of an aggregate, as its parts choose it.
///
/// This trait is sealed.
pub trait ErrorOf<Req>: Sealed {
    /// The error of an aggregate whose parts before this one chose `E`: the service's own for a required part, and
    /// `E` for an optional one.
    type Error<E>;
}

/// A part of an aggregate whose error is `E`: [`Required`] or [`Optional`].
///
/// This trait is sealed.
pub trait Part<Req, E>: Sealed {
    /// The service of the part.
    #[doc(hidden)]
    type Service: Service<Req>;
    /// The value of the part in the answer.
    type Value;

    /// Returns a clone of the service. `None` if the clone of an optional part panics.
    #[doc(hidden)]
    fn service(&self) -> Option<Self::Service>;

    /// Returns the value of a call that ended with `result`, or the error of the aggregate.
    #[doc(hidden)]
    fn value(
        result: Result<
            <Self::Service as Service<Req>>::Response,
            <Self::Service as Service<Req>>::Error,
        >,
    ) -> Result<Self::Value, E>;

    /// Returns the reason for which `value` is none.
    #[doc(hidden)]
    fn absence(value: &Self::Value) -> Option<Absence>;

    /// Returns the value of a part that is missing without an answer. `None` for a required part.
    #[doc(hidden)]
    fn without(reason: Unanswered) -> Option<Self::Value>;
}

/// The reasons why a part has no answer.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum Unanswered {
    TimedOut,
    NotReady,
    Panicked,
}

impl<S> Sealed for Required<S> {}

impl<Req, S: Service<Req>> ErrorOf<Req> for Required<S> {
    type Error<E> = S::Error;
}

impl<Req, E, S> Part<Req, E> for Required<S>
where
    S: Service<Req, Error: Into<E>> + Clone,
{
    type Service = S;
    type Value = S::Response;

    #[inline(always)]
    fn service(&self) -> Option<S> {
        Some(self.0.clone())
    }

    #[inline(always)]
    fn value(result: Result<S::Response, S::Error>) -> Result<S::Response, E> {
        result.map_err(Into::into)
    }

    #[inline(always)]
    fn absence(_: &S::Response) -> Option<Absence> {
        None
    }

    fn without(_: Unanswered) -> Option<S::Response> {
        None
    }
}

impl<S> Sealed for Optional<S> {}

impl<Req, S> ErrorOf<Req> for Optional<S> {
    type Error<E> = E;
}

impl<Req, E, S> Part<Req, E> for Optional<S>
where
    S: Service<Req> + Clone,
{
    type Service = S;
    type Value = Result<S::Response, Missing<S::Error>>;

    #[inline(always)]
    fn service(&self) -> Option<S> {
        caught(|| self.0.clone())
    }

    #[inline(always)]
    fn value(result: Result<S::Response, S::Error>) -> Result<Self::Value, E> {
        Ok(result.map_err(Missing::Failed))
    }

    #[inline(always)]
    fn absence(value: &Self::Value) -> Option<Absence> {
        value.as_ref().err().map(Missing::reason)
    }

    fn without(reason: Unanswered) -> Option<Self::Value> {
        Some(Err(match reason {
            Unanswered::TimedOut => Missing::TimedOut,
            Unanswered::NotReady => Missing::NotReady,
            Unanswered::Panicked => Missing::Panicked,
        }))
    }
}

impl<S: fmt::Debug> fmt::Debug for Required<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Required").field(&self.0).finish()
    }
}

impl<S: fmt::Debug> fmt::Debug for Optional<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Optional").field(&self.0).finish()
    }
}

/// The end of a call, as its parts bring it about.
#[doc(hidden)]
pub struct Turn<'a, E> {
    pub(super) shared: &'a Shared,
    pub(super) progress: &'a mut Progress,
    /// The required part that ended the call, by its place.
    pub(super) failed: Option<(usize, Failed<E>)>,
}

impl<E> fmt::Debug for Turn<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("progress", &self.progress).finish_non_exhaustive()
    }
}

/// How a required part ended the call.
pub(super) enum Failed<E> {
    Error(E),
    Panic(Panic),
    TimedOut(Option<Unanswered>),
}

impl<E> Failed<E> {
    pub(super) fn reason(&self) -> Absence {
        match self {
            Self::Error(_) => Absence::Failed,
            Self::Panic(_) => Absence::Panicked,
            Self::TimedOut(Some(Unanswered::NotReady)) => Absence::NotReady,
            Self::TimedOut(_) => Absence::TimedOut,
        }
    }
}

pin_project! {
    /// One call of a part.
    #[doc(hidden)]
    pub struct Run<P, Req, E>
    where
        P: Part<Req, E>,
    {
        // `None` once the call has ended, and if the clone of an optional part panicked.
        #[pin]
        call: Option<Oneshot<P::Service, Req>>,
        value: Option<P::Value>,
    }
}

impl<P: Part<Req, E>, Req, E> Run<P, Req, E> {
    #[inline(always)]
    pub(super) fn new(part: &P, request: Req) -> Self {
        let call = part.service().map(|service| Oneshot::new(service, request));
        Self { call, value: None }
    }

    /// Polls the call of the part at `place`. A panic is a result, so that it ends no other part.
    #[inline(always)]
    pub(super) fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        place: usize,
        turn: &mut Turn<'_, E>,
    ) {
        let mut this = self.as_mut().project();
        if this.call.is_none() {
            return self.miss(place, Unanswered::Panicked, turn);
        }
        let mut answer = None;
        // The destructor of the call runs here too. If it panics, the answer stands.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let polled = this.call.as_mut().as_pin_mut().map(|call| call.poll(cx));
            if let Some(Poll::Ready(result)) = polled {
                answer = Some(result);
                this.call.set(None);
            }
        }));
        let result = match (answer, polled) {
            (Some(result), polled) => {
                polled.unwrap_or_else(discard);
                P::value(result)
            }
            (None, Ok(())) => return,
            (None, Err(panic)) => {
                if P::without(Unanswered::Panicked).is_none() {
                    turn.failed = Some((place, Failed::Panic(panic)));
                    return;
                }
                discard(panic);
                return self.miss(place, Unanswered::Panicked, turn);
            }
        };
        match result {
            Ok(value) => {
                let absence = P::absence(&value);
                *this.value = Some(value);
                match absence {
                    None => turn.progress.answered(place),
                    Some(reason) => turn.missed(place, reason),
                }
            }
            Err(error) => turn.failed = Some((place, Failed::Error(error))),
        }
    }

    /// Ends the call of an optional part that is still open.
    pub(super) fn close(self: Pin<&mut Self>, place: usize, turn: &mut Turn<'_, E>) {
        if let Some(reason) = self.open() {
            self.miss(place, reason, turn);
        }
    }

    /// Ends the call of an optional part without an answer.
    #[cold]
    fn miss(self: Pin<&mut Self>, place: usize, reason: Unanswered, turn: &mut Turn<'_, E>) {
        let mut this = self.project();
        let _drop = caught(|| this.call.set(None));
        let value = P::without(reason);
        let absence = value.as_ref().and_then(P::absence);
        *this.value = value;
        if let Some(absence) = absence {
            turn.missed(place, absence);
        }
    }

    /// Returns why the call has not ended.
    pub(super) fn open(&self) -> Option<Unanswered> {
        let call = self.call.as_ref()?;
        Some(if call.is_asking() { Unanswered::NotReady } else { Unanswered::TimedOut })
    }

    /// Drops the call. A panic of its destructor must not replace the error of another part.
    pub(super) fn clear(self: Pin<&mut Self>) {
        let _drop = caught(|| self.project().call.set(None));
    }

    #[inline(always)]
    pub(super) fn take(self: Pin<&mut Self>) -> Option<P::Value> {
        self.project().value.take()
    }
}

impl<E> Turn<'_, E> {
    #[cold]
    fn missed(&mut self, place: usize, reason: Absence) {
        self.progress.missed(place);
        self.shared.missing(place, reason);
    }
}
