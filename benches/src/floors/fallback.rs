//! A replacement answer for a failure.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

#[derive(Clone)]
pub struct Fallback<S> {
    inner: S,
    value: u64,
}

impl<S> Fallback<S> {
    pub fn new(inner: S, value: u64) -> Self {
        Self { inner, value }
    }
}

pin_project! {
    pub struct OrElse<F> {
        #[pin]
        future: F,
        value: u64,
    }
}

impl<F: Future<Output = Result<u64, E>>, E> Future for OrElse<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        Poll::Ready(Ok(ready!(this.future.poll(cx)).unwrap_or(*this.value)))
    }
}

impl<S: Service<u64, Response = u64>> Service<u64> for Fallback<S> {
    type Response = u64;
    type Error = S::Error;
    type Future = OrElse<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        OrElse { future: self.inner.call(request), value: self.value }
    }
}
