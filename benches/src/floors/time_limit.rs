//! A timer made at the first wait. It counts from there, so no clock is read before. Counting from
//! the call costs one more read.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::Service;

use crate::workload::Failure;

#[derive(Clone)]
pub struct TimeLimit<S> {
    inner: S,
    limit: Duration,
}

impl<S> TimeLimit<S> {
    pub fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

pin_project! {
    pub struct Limited<F> {
        #[pin]
        future: F,
        #[pin]
        sleep: Option<Sleep>,
        limit: Duration,
    }
}

impl<F: Future<Output = Result<u64, Failure>>> Future for Limited<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        if let Poll::Ready(result) = this.future.poll(cx) {
            return Poll::Ready(result);
        }
        if this.sleep.is_none() {
            this.sleep.set(Some(tokio::time::sleep(*this.limit)));
        }
        match this.sleep.as_pin_mut() {
            Some(sleep) => sleep.poll(cx).map(|()| Err(Failure::Late)),
            None => Poll::Pending,
        }
    }
}

impl<S: Service<u64, Response = u64, Error = Failure>> Service<u64> for TimeLimit<S> {
    type Response = u64;
    type Error = Failure;
    type Future = Limited<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        Limited { future: self.inner.call(request), sleep: None, limit: self.limit }
    }
}
