use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll, ready as is_ready};

use buttress_durable::saga::{Call, StepKey};
use pin_project_lite::pin_project;
use tower::{BoxError, Service};

use super::effects::{Effects, Handled};

/// A service for steps that recognises repeated calls. Made by [`Effects::participant`].
#[derive(Clone)]
pub struct Participant<A> {
    effects: Effects,
    answer: A,
}

impl<A> Participant<A> {
    pub(super) const fn new(effects: Effects, answer: A) -> Self {
        Self { effects, answer }
    }
}

/// The undo of the step came before this action, which has no effect. A
/// [definite](buttress_durable::saga::ActionBuilder::definite) error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}: the undo of the step came before this action")]
pub struct Overtaken(pub StepKey);

impl<R, T, A> Service<Call<R>> for Participant<A>
where
    A: Fn(&R) -> T,
{
    type Response = T;
    type Error = BoxError;
    type Future = Ready<Result<T, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    /// Has the effect of the call.
    fn call(&mut self, call: Call<R>) -> Self::Future {
        ready(match self.effects.handle(call.key()) {
            Handled::Effect | Handled::Known => Ok((self.answer)(call.request())),
            Handled::Overtaken => Err(Overtaken(call.key()).into()),
        })
    }
}

impl<A> fmt::Debug for Participant<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant").field("effects", &self.effects).finish_non_exhaustive()
    }
}

/// A service whose answers are recorded as effects. Made by [`Effects::around`].
#[derive(Clone, Debug)]
pub struct Recording<S> {
    effects: Effects,
    service: S,
}

impl<S> Recording<S> {
    pub(super) const fn new(effects: Effects, service: S) -> Self {
        Self { effects, service }
    }
}

impl<S: Service<Call<R>>, R> Service<Call<R>> for Recording<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = RecordingFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, call: Call<R>) -> Self::Future {
        let key = call.key();
        let future = self.service.call(call);
        RecordingFuture { future, effects: self.effects.clone(), key }
    }
}

pin_project! {
    /// The response of a [`Recording`] service.
    ///
    /// # Cancel safety
    /// If it is dropped before its end, no effect is recorded.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct RecordingFuture<F> {
        #[pin]
        future: F,
        effects: Effects,
        key: StepKey,
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> Future for RecordingFuture<F> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = is_ready!(this.future.poll(cx));
        if answer.is_ok() {
            this.effects.record(*this.key);
        }
        Poll::Ready(answer)
    }
}
