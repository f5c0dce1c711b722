//! [`Call`]: a request of a step on its way through the user's layers to the service, and
//! [`Contact`]: the record of how far it got.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use buttress::Name;
use pin_project_lite::pin_project;
use tower::Service;

use crate::saga::run::lease::Permit;
use crate::saga::store::SagaId;

/// The service of a step that is called: its action or its undo.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// The action of the step.
    Action,
    /// The undo of the step.
    Undo,
}

/// The key by which a service recognises a repeated call. Its text is `saga/step/action` or
/// `saga/step/undo`.
///
/// The key is equal in every attempt of one step in one direction, also after a restart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StepKey {
    saga: SagaId,
    step: Name,
    direction: Direction,
}

impl StepKey {
    pub(in crate::saga) fn new(saga: SagaId, step: Name, direction: Direction) -> Self {
        Self { saga, step, direction }
    }

    /// Returns the id of the saga.
    #[must_use]
    pub fn saga(&self) -> SagaId {
        self.saga
    }

    /// Returns the name of the step.
    #[must_use]
    pub fn step(&self) -> Name {
        self.step
    }

    /// Returns whether the call is an action or an undo.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Action => "action",
            Direction::Undo => "undo",
        };
        write!(f, "{}/{}/{direction}", self.saga, self.step)
    }
}

/// A request of a step with its key, which the layers and the service of the step receive.
///
/// It is `Clone` if the request is, so that a retry among the layers can repeat it. For a service
/// that takes the plain request, use `ServiceBuilder::new().map_request(saga::Call::into_request)`.
#[derive(Clone)]
pub struct Call<R> {
    request: R,
    key: StepKey,
    contact: Arc<Contact>,
}

impl<R> Call<R> {
    pub(in crate::saga) fn new(request: R, key: StepKey, contact: Arc<Contact>) -> Self {
        Self { request, key, contact }
    }

    /// Returns the request.
    #[must_use]
    pub fn request(&self) -> &R {
        &self.request
    }

    /// Returns the request, to be changed.
    pub fn request_mut(&mut self) -> &mut R {
        &mut self.request
    }

    /// Returns the request without its key.
    #[must_use]
    pub fn into_request(self) -> R {
        self.request
    }

    /// Returns the key by which the service recognises a repeated call.
    #[must_use]
    pub fn key(&self) -> StepKey {
        self.key
    }
}

impl<R: fmt::Debug> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("key", &self.key).field("request", &self.request).finish()
    }
}

/// The record of the attempts of one execution of a step, made right in front of the service.
#[derive(Debug)]
pub(in crate::saga) struct Contact {
    /// Attempts that called the service and got no definite refusal.
    open: AtomicU32,
    /// Whether an attempt got a definite refusal.
    refused: AtomicBool,
    /// Whether an earlier execution of the step called the service and got no answer.
    doubt: bool,
    /// The permit under which attempts may call the service.
    permit: Permit,
    /// Whether an attempt was stopped, because the permit is not valid any more.
    lapsed: AtomicBool,
    /// The waker of the execution, which ends when an attempt was stopped.
    waker: Mutex<Option<Waker>>,
}

impl Contact {
    pub(in crate::saga) fn new(doubt: bool, permit: Permit) -> Self {
        Self {
            open: AtomicU32::new(0),
            refused: AtomicBool::new(false),
            doubt,
            permit,
            lapsed: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// Whether an attempt was stopped. Wakes `cx` when one is.
    pub(in crate::saga) fn has_lapsed(&self, cx: &mut Context<'_>) -> bool {
        {
            let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *waker {
                Some(known) => known.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
        }
        // Read after the waker is stored: the attempt that sets the flag wakes it afterwards.
        self.lapsed.load(Ordering::Acquire)
    }

    /// Whether an attempt may call the service. A layer of the user's (a retry, a queue) may have
    /// delayed it until this worker did not own the saga any more.
    fn may_leave(&self) -> bool {
        if self.permit.stands() {
            return true;
        }
        self.lapsed.store(true, Ordering::Release);
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
        false
    }

    /// Whether the failure of all attempts together means that the action had no effect. It does if
    /// each attempt that called the service got a definite refusal. A refusal does not make an
    /// earlier attempt definite that timed out: it may still be in progress. If no attempt called
    /// the service, an earlier execution may still have had an effect.
    pub(in crate::saga) fn is_definite(&self) -> bool {
        // Channels have handed over the work that layers do on other tasks. The count orders
        // nothing.
        self.open.load(Ordering::Acquire) == 0
            && (!self.doubt || self.refused.load(Ordering::Acquire))
    }

    /// Whether an attempt of this execution called the service.
    pub(in crate::saga) fn has_left(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0 || self.refused.load(Ordering::Acquire)
    }

    fn leave(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    fn refused(&self) {
        self.refused.store(true, Ordering::Release);
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether an error of a service means that the call certainly had no effect.
pub(in crate::saga) type Definite<E> = Arc<dyn Fn(&E) -> bool + Send + Sync>;

/// The innermost service of a step, which wraps the user's service under the user's layers.
///
/// It counts the attempts that reach the user's service, and classifies their errors.
/// [`StepBuilder`](crate::saga::StepBuilder) creates it.
pub struct Leaf<S, E> {
    inner: S,
    definite: Definite<E>,
}

impl<S, E> Leaf<S, E> {
    pub(in crate::saga) fn new(inner: S, definite: Definite<E>) -> Self {
        Self { inner, definite }
    }
}

impl<S, R, E> Service<Call<R>> for Leaf<S, E>
where
    S: Service<Call<R>, Error = E>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LeafFuture<S::Future, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call<R>) -> Self::Future {
        let contact = call.contact.clone();
        let definite = self.definite.clone();
        if !contact.may_leave() {
            return LeafFuture { future: None, contact, definite };
        }
        // Counted before the call: a service that panics in the call may have had an effect.
        contact.leave();
        LeafFuture { future: Some(self.inner.call(call)), contact, definite }
    }
}

impl<S: Clone, E> Clone for Leaf<S, E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), definite: self.definite.clone() }
    }
}

impl<S: fmt::Debug, E> fmt::Debug for Leaf<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("inner", &self.inner).finish_non_exhaustive()
    }
}

pin_project! {
    /// The response future of a [`Leaf`]. Dropping it leaves the call in doubt.
    #[must_use = "futures do nothing unless polled"]
    pub struct LeafFuture<F, E> {
        // `None` if the attempt was stopped. The execution then ends, and drops this future.
        #[pin]
        future: Option<F>,
        contact: Arc<Contact>,
        definite: Definite<E>,
    }
}

impl<F, T, E> Future for LeafFuture<F, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // The call was kept from leaving, and there is no error of the user's type to answer with. No waker is needed
        // here: `Contact::may_leave` has woken the execution, which ends and drops this future. A layer that moved the
        // call to a separate task keeps it until that task is dropped.
        let Some(future) = this.future.as_pin_mut() else { return Poll::Pending };
        let polled = future.poll(cx);
        if let Poll::Ready(Err(error)) = &polled {
            if (this.definite)(error) {
                this.contact.refused();
            }
        }
        polled
    }
}

impl<F, E> fmt::Debug for LeafFuture<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeafFuture").finish_non_exhaustive()
    }
}
