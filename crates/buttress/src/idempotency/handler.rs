//! The handler of a call that had to wait, and the task that runs it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

use super::running::Running;
use super::shared::Shared;
use super::tape::Tape;
use super::tasks::Entered;
use super::transactional::{Plain, Transactional};
use crate::machinery::ended::polled_after_completion;
use crate::vocabulary::error::Error;

/// The answer of a handler, or the refusal that takes its place.
pub(super) type Ended<S, Q> =
    Result<Result<<S as Service<Q>>::Response, <S as Service<Q>>::Error>, Error>;

pin_project! {
    /// The call of a handler: polls the service until it is ready, and calls it.
    pub struct Handler<S, Q>
    where
        S: Service<Q>,
    {
        // Before the service, so that it is dropped first.
        #[pin]
        future: Option<S::Future>,
        service: S,
        ready: bool,
        request: Option<Q>,
    }
}

impl<S: Service<Q>, Q> Handler<S, Q> {
    pub(super) fn new(service: S, ready: bool, request: Q) -> Self {
        Self { future: None, service, ready, request: Some(request) }
    }
}

impl<S: Service<Q>, Q> Future for Handler<S, Q> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let Some(future) = this.future.as_mut().as_pin_mut() {
                return future.poll(cx);
            }
            if !*this.ready {
                ready!(this.service.poll_ready(cx))?;
                *this.ready = true;
            }
            let Some(request) = this.request.take() else {
                polled_after_completion("idempotency::ResponseFuture")
            };
            this.future.set(Some(this.service.call(request)));
        }
    }
}

pin_project! {
    /// A handler under its claim, or without one.
    #[project = WorkProj]
    pub enum Work<S, Q, T>
    where
        S: Service<Q>,
        T: Tape<S::Response, S::Error>,
    {
        Protected { #[pin] running: Running<Handler<S, Q>, T, S::Response, S::Error> },
        Unprotected { #[pin] handler: Handler<S, Q> },
    }
}

impl<S, Q, T> Future for Work<S, Q, T>
where
    S: Service<Q>,
    T: Tape<S::Response, S::Error>,
    T::Value: Clone + Send + 'static,
{
    type Output = Ended<S, Q>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            WorkProj::Protected { running } => running.poll(cx),
            WorkProj::Unprotected { handler } => handler.poll(cx).map(Ok),
        }
    }
}

/// The values that a handler needs on its task.
pub struct Entry<V> {
    pub(super) shared: Arc<Shared<V>>,
    /// The place of a detached handler.
    pub(super) entered: Option<Entered>,
}

/// A mode of a layer: its handlers run with their callers, or on separate tasks
/// ([`Detached`](super::Detached)). It is sealed.
pub trait Runs<S, Q, T>
where
    S: Service<Q>,
    T: Tape<S::Response, S::Error>,
{
    /// `true` if handlers run on separate tasks.
    #[doc(hidden)]
    const DETACHED: bool;

    /// The handler, as its caller polls it.
    #[doc(hidden)]
    type Run: Future<Output = Ended<S, Q>>;

    #[doc(hidden)]
    fn run(work: Work<S, Q, T>, entry: Entry<T::Value>) -> Self::Run;
}

/// A handler that runs with its caller.
macro_rules! with_its_caller {
    ($form:ty $(, $St:ident)?) => {
        impl<S, Q, T $(, $St)?> Runs<S, Q, T> for $form
        where
            S: Service<Q>,
            T: Tape<S::Response, S::Error>,
            T::Value: Clone + Send + 'static,
        {
            const DETACHED: bool = false;
            type Run = Work<S, Q, T>;

            fn run(work: Work<S, Q, T>, _entry: Entry<T::Value>) -> Self::Run {
                work
            }
        }
    };
}

with_its_caller!(Plain);
with_its_caller!(Transactional<St>, St);

impl<S: Service<Q>, Q> fmt::Debug for Handler<S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").field("ready", &self.ready).finish_non_exhaustive()
    }
}

impl<S, Q, T> fmt::Debug for Work<S, Q, T>
where
    S: Service<Q>,
    T: Tape<S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for Entry<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("entered", &self.entered.is_some()).finish_non_exhaustive()
    }
}
