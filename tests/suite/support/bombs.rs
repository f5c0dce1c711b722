//! Values that panic when they are dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower::Service;

/// Panics when it is dropped, unless a panic unwinds already.
#[derive(Debug, thiserror::Error)]
#[error("no order")]
pub(crate) struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a value panics when it is dropped");
    }
}

/// A future that panics when it is dropped.
pub(crate) struct Armed<T> {
    future: Pin<Box<dyn Future<Output = T> + Send>>,
    _bomb: Bomb,
}

/// Returns `future`, which then panics when it is dropped.
pub(crate) fn armed<T>(future: impl Future<Output = T> + Send + 'static) -> Armed<T> {
    Armed { future: Box::pin(future), _bomb: Bomb }
}

impl<T> Future for Armed<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.future.as_mut().poll(cx)
    }
}

/// A service, or a classifier, whose clones panic when they are dropped.
pub(crate) struct ArmedClones<S> {
    inner: S,
    _bomb: Option<Bomb>,
}

impl<S> ArmedClones<S> {
    pub(crate) fn of(inner: S) -> Self {
        Self { inner, _bomb: None }
    }
}

impl<S: Clone> Clone for ArmedClones<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), _bomb: Some(Bomb) }
    }
}

impl<S: Service<Req>, Req> Service<Req> for ArmedClones<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> S::Future {
        self.inner.call(request)
    }
}

impl<S: buttress::Classify<T, E>, T, E> buttress::Classify<T, E> for ArmedClones<S> {
    fn classify(&self, result: &Result<T, E>) -> buttress::Outcome {
        self.inner.classify(result)
    }
}
