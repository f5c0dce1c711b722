#![doc = include_str!("../guide/context.md")]

mod carried;
mod correlation;
mod current;
mod priority;
mod scoped;
mod trace;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tower::Service;

pub use carried::{Carried, CarriedLayer, CarriedService};
pub use correlation::{CorrelationId, InvalidCorrelationId};
pub use priority::Priority;
pub use scoped::Scoped;
pub use trace::{InvalidTraceparent, TraceContext};

use crate::vocabulary::error::Error;
use crate::vocabulary::name::Name;

pub(crate) use current::{deadline, wait_until_deadline};

/// The facts of one request besides its arguments: correlation id, trace, deadline, priority and
/// identity.
///
/// A context is a value. [`scope`](Self::scope) makes it the current one while a future is polled. A clone copies
/// one pointer and one instant. A context without a deadline and without any of the other parts is *empty*.
#[derive(Clone, Default, PartialEq)]
#[must_use]
pub struct Context {
    /// `None` if all of the parts have their defaults.
    parts: Option<Arc<Parts>>,
    deadline: Option<Instant>,
}

#[derive(Clone, Default, PartialEq)]
struct Parts {
    correlation: Option<CorrelationId>,
    trace: Option<TraceContext>,
    priority: Priority,
    identity: Option<Box<str>>,
}

impl Context {
    /// Returns an empty context.
    pub const fn new() -> Self {
        Self { parts: None, deadline: None }
    }

    /// Returns the context of the running task. Outside of every scope it is empty.
    pub fn current() -> Self {
        current::peek(Self::clone)
    }

    /// Calls `f` with the context of the running task and returns its answer, without a clone.
    ///
    /// Inside of `f` a scope has no effect: [`sync_scope`](Self::sync_scope) calls its closure in this context.
    pub fn peek<T>(f: impl FnOnce(&Self) -> T) -> T {
        current::peek(f)
    }

    /// Returns the deadline of the running task.
    #[must_use]
    pub fn deadline() -> Option<Instant> {
        current::deadline()
    }

    /// Sets the deadline to `at`, unless the context has an earlier one: a deadline can only come closer.
    ///
    /// `at` is an instant of the [`Clock`](crate::Clock) that the layers under this context have.
    pub fn with_deadline(self, at: Instant) -> Self {
        let deadline = self.deadline.map_or(at, |deadline| deadline.min(at));
        Self { deadline: Some(deadline), ..self }
    }

    /// Removes the deadline, for work that outlives its request.
    pub fn without_deadline(self) -> Self {
        Self { deadline: None, ..self }
    }

    /// Sets the correlation id. Default: none.
    pub fn with_correlation(self, id: CorrelationId) -> Self {
        self.with(|parts| parts.correlation = Some(id))
    }

    /// Sets the trace. Default: none.
    pub fn with_trace(self, trace: TraceContext) -> Self {
        self.with(|parts| parts.trace = Some(trace))
    }

    /// Sets the priority. Default: [`Priority::default`], which is 2.
    pub fn with_priority(self, priority: Priority) -> Self {
        self.with(|parts| parts.priority = priority)
    }

    /// Sets the identity of the caller. Default: none. Set it only after the caller was authenticated: services trust
    /// it.
    pub fn with_identity(self, identity: &str) -> Self {
        self.with(|parts| parts.identity = Some(identity.into()))
    }

    fn with(mut self, set: impl FnOnce(&mut Parts)) -> Self {
        set(Arc::make_mut(self.parts.get_or_insert_default()));
        self
    }

    /// Returns the correlation id.
    #[must_use]
    pub fn correlation(&self) -> Option<&CorrelationId> {
        self.parts.as_ref()?.correlation.as_ref()
    }

    /// Returns the trace.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.parts.as_ref()?.trace.as_ref()
    }

    /// Returns the priority.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.parts.as_ref().map(|parts| parts.priority).unwrap_or_default()
    }

    /// Returns the identity of the caller, if the caller was authenticated.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        self.parts.as_ref()?.identity.as_deref()
    }

    /// Returns the deadline of this context. [`Context::deadline`] returns the deadline of the
    /// running task.
    #[must_use]
    pub const fn expires(&self) -> Option<Instant> {
        self.deadline
    }

    /// Returns the error of a call that would begin at `now`, if the deadline has passed by then.
    #[must_use]
    pub fn expired(&self, now: Instant) -> Option<Error> {
        let passed = self.deadline.is_some_and(|deadline| deadline <= now);
        passed.then(|| Error::deadline_exceeded_before(Name::default(), Duration::ZERO))
    }

    /// Returns the error of a call that began at `began` and was still running at the deadline. `None` without a
    /// deadline.
    #[must_use]
    pub fn overrun(&self, began: Instant) -> Option<Error> {
        let left = self.deadline?.saturating_duration_since(began);
        Some(Error::deadline_exceeded(Name::default(), left))
    }

    /// Returns `true` if no part was set and there is no deadline.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.parts.is_none() && self.deadline.is_none()
    }

    /// Polls and drops `future` in this context. The scope replaces the outer context as a whole.
    ///
    /// An argument of this method is evaluated outside of the scope: `cx.scope(service.call(request))` calls the
    /// service in the outer context. Use [`run`](Self::run) for a service.
    pub fn scope<F: Future>(self, future: F) -> Scoped<F> {
        Scoped::new(self, future)
    }

    /// Calls `f` in this context.
    pub fn sync_scope<T>(mut self, f: impl FnOnce() -> T) -> T {
        let _entered = current::Entered::new(&mut self);
        f()
    }

    /// Calls `service` in this context, and polls and drops the response future in it. The caller has asked
    /// `poll_ready`, as for [`Service::call`].
    pub fn run<S: Service<R>, R>(self, service: &mut S, request: R) -> Scoped<S::Future> {
        let mut context = self;
        let entered = current::Entered::new(&mut context);
        let future = service.call(request);
        drop(entered);
        Scoped::new(context, future)
    }

    /// Starts a task of tokio in this context.
    ///
    /// `tokio::spawn` starts a task in an empty one, because tokio knows no contexts.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime, as `tokio::spawn` does.
    pub fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        crate::vocabulary::spawn::joined(self.scope(future))
    }
}

impl fmt::Debug for Context {
    /// The identity is not shown: it may be personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("correlation", &self.correlation())
            .field("trace", &self.trace())
            .field("deadline", &self.deadline)
            .field("priority", &self.priority())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
