//! [`Call`]: a request of a step on its way through the user's layers to the service, and what is known
//! of how far it got.

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

/// Which of the two services of a step is called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// Its action.
    Action,
    /// Its undo.
    Undo,
}

/// What a service recognises a repeated call by: the same for every attempt of one step in one
/// direction, also after a restart. Its text is `saga/step/action` or `saga/step/undo`.
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

    /// The saga.
    #[must_use]
    pub fn saga(&self) -> SagaId {
        self.saga
    }

    /// The name of the step.
    #[must_use]
    pub fn step(&self) -> Name {
        self.step
    }

    /// Action or undo.
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

/// A request of a step, with its key. This is what the layers and the service of a step get.
///
/// It is `Clone` where the request is, so that a retry among the layers can repeat it. For a service
/// that takes the plain request: `ServiceBuilder::new().map_request(saga::Call::into_request)`.
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

    /// What is asked for.
    #[must_use]
    pub fn request(&self) -> &R {
        &self.request
    }

    /// What is asked for, to be changed.
    pub fn request_mut(&mut self) -> &mut R {
        &mut self.request
    }

    /// What is asked for.
    #[must_use]
    pub fn into_request(self) -> R {
        self.request
    }

    /// What the service recognises a repetition by.
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

/// What the attempts of one execution of a step came to, seen from right in front of the service.
#[derive(Debug)]
pub(in crate::saga) struct Contact {
    /// Attempts that left for the service and were not answered with a final refusal.
    open: AtomicU32,
    /// Whether one was answered with a final refusal.
    refused: AtomicBool,
    /// Whether an execution of the step before this one left and was not answered.
    doubt: bool,
    /// Under which attempts may leave.
    permit: Permit,
    /// Whether an attempt was kept from leaving, because the permit does not stand any more.
    lapsed: AtomicBool,
    /// Of the execution, which ends then.
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

    /// Whether an attempt was kept from leaving. `cx` is woken when one is.
    pub(in crate::saga) fn has_lapsed(&self, cx: &mut Context<'_>) -> bool {
        {
            let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *waker {
                Some(known) => known.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
        }
        // After the waker is there: whoever sets the flag wakes it afterwards.
        self.lapsed.load(Ordering::Acquire)
    }

    /// Whether an attempt may leave. A layer of the user's (a retry, a queue) may have held it for so long that
    /// this worker does not own the saga any more.
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

    /// Whether the failure of all attempts together means that nothing happened: each that left was
    /// answered with a final refusal. A refusal says nothing of another attempt before it that timed
    /// out: that one may still be happening. And that none left says nothing of an execution before.
    pub(in crate::saga) fn is_definite(&self) -> bool {
        // What layers do on other tasks has been handed over by their channels; the count orders nothing.
        self.open.load(Ordering::Acquire) == 0
            && (!self.doubt || self.refused.load(Ordering::Acquire))
    }

    /// Whether an attempt of this execution left for the service.
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

/// Whether an error of a service means that it certainly did nothing.
pub(in crate::saga) type Definite<E> = Arc<dyn Fn(&E) -> bool + Send + Sync>;

/// The saga's own adaptor around a service, under the user's layers: counts the attempts that reach it
/// and judges their errors. Made by [`StepBuilder`](crate::saga::StepBuilder).
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
        // Before the call: a service that panics in it may have done its work.
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
    /// The response of a [`Leaf`]. Dropping it leaves the call in doubt.
    #[must_use = "futures do nothing unless polled"]
    pub struct LeafFuture<F, E> {
        // `None` if the call was kept from leaving: the execution ends, and drops this.
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
