//! tokio without a layer: a semaphore, and a timeout around a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Timeout;

use crate::floors::{Either, Held};
use crate::guarded::{Guard, Guarded, Inner};
use crate::workload::Failure;

/// A permit per call, or a refusal.
pub type Permits<S> = Guarded<S, Arc<Semaphore>>;

impl<S> Permits<S> {
    pub fn new(inner: S, permits: usize) -> Self {
        Self { inner, guard: Arc::new(Semaphore::new(permits)) }
    }
}

impl<S: Inner> Guard<S> for Arc<Semaphore> {
    type Future = Either<Held<S::Future, OwnedSemaphorePermit>, Result<u64, Failure>>;

    #[inline]
    fn call(&self, inner: &mut S, request: u64) -> Self::Future {
        match self.clone().try_acquire_owned() {
            Ok(permit) => Either::Inner { future: Held { future: inner.call(request), permit } },
            Err(_) => Either::Refused { result: Some(Err(Failure::Full)) },
        }
    }
}

/// [`tokio::time::timeout`] around each call.
pub type TimedOut<S> = Guarded<S, Within>;

/// The time of a call.
#[derive(Clone)]
pub struct Within(pub Duration);

pin_project! {
    pub struct Timed<F> {
        #[pin]
        future: Timeout<F>,
    }
}

impl<F: Future<Output = Result<u64, Failure>>> Future for Timed<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx).map(|result| result.unwrap_or(Err(Failure::Late)))
    }
}

impl<S: Inner> Guard<S> for Within {
    type Future = Timed<S::Future>;

    #[inline]
    fn call(&self, inner: &mut S, request: u64) -> Self::Future {
        Timed { future: tokio::time::timeout(self.0, inner.call(request)) }
    }
}
