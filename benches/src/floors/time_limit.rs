//! A timer made at the first wait. It counts from there, so no clock is read before. Counting from
//! the call costs one more read.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Sleep;

use crate::guarded::{Guard, Guarded, Inner};
use crate::workload::Failure;

/// Ends calls after this time.
#[derive(Clone)]
pub struct After(Duration);

pub type TimeLimit<S> = Guarded<S, After>;

impl<S> TimeLimit<S> {
    pub fn new(inner: S, limit: Duration) -> Self {
        Self { inner, guard: After(limit) }
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

impl<S: Inner> Guard<S> for After {
    type Future = Limited<S::Future>;

    #[inline]
    fn call(&self, inner: &mut S, request: u64) -> Self::Future {
        Limited { future: inner.call(request), sleep: None, limit: self.0 }
    }
}
