//! tokio without a layer: a semaphore, and a timeout around a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Timeout;
use tower::Service;

use crate::floors::{Either, Held};
use crate::workload::Failure;

/// A permit per call, or a refusal.
#[derive(Clone)]
pub struct Permits<S> {
    inner: S,
    semaphore: Arc<Semaphore>,
}

impl<S> Permits<S> {
    pub fn new(inner: S, permits: usize) -> Self {
        Self { inner, semaphore: Arc::new(Semaphore::new(permits)) }
    }
}

impl<S: Service<u64, Response = u64, Error = Failure>> Service<u64> for Permits<S> {
    type Response = u64;
    type Error = Failure;
    type Future = Either<Held<S::Future, OwnedSemaphorePermit>, Result<u64, Failure>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        match self.semaphore.clone().try_acquire_owned() {
            Ok(permit) => {
                Either::Inner { future: Held { future: self.inner.call(request), permit } }
            }
            Err(_) => Either::Refused { result: Some(Err(Failure::Full)) },
        }
    }
}

/// [`tokio::time::timeout`] around each call.
#[derive(Clone)]
pub struct TimedOut<S> {
    pub inner: S,
    pub limit: Duration,
}

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

impl<S: Service<u64, Response = u64, Error = Failure>> Service<u64> for TimedOut<S> {
    type Response = u64;
    type Error = Failure;
    type Future = Timed<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        Timed { future: tokio::time::timeout(self.limit, self.inner.call(request)) }
    }
}
