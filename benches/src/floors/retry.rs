//! Three attempts immediately after each other.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::Service;

#[derive(Clone)]
pub struct Retry<S> {
    inner: S,
}

impl<S> Retry<S> {
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

pin_project! {
    pub struct Attempts<S: Service<u64>> {
        #[pin]
        future: S::Future,
        service: S,
        request: u64,
        left: u32,
    }
}

impl<S: Service<u64>> Future for Attempts<S> {
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let result = ready!(this.future.as_mut().poll(cx));
            if result.is_ok() || *this.left == 0 {
                return Poll::Ready(result);
            }
            ready!(this.service.poll_ready(cx))?;
            *this.left -= 1;
            this.future.set(this.service.call(*this.request));
        }
    }
}

impl<S: Service<u64> + Clone> Service<u64> for Retry<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Attempts<S>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        let service = self.inner.clone();
        Attempts { future: self.inner.call(request), service, request, left: 2 }
    }
}
