use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::machinery::ended::polled_after_completion;

type Inner<Res, E> = Pin<Box<dyn Future<Output = Result<Res, E>> + Send>>;

/// The response of a [`Gateway`](super::Gateway). Dropping it cancels the request.
///
/// It is boxed, because authorization, the wait for a backend and the backend's work are futures of
/// many types.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Res, E> {
    /// `None` once it has answered.
    inner: Option<Inner<Res, E>>,
}

impl<Res, E> ResponseFuture<Res, E> {
    pub(super) fn new(future: impl Future<Output = Result<Res, E>> + Send + 'static) -> Self {
        Self { inner: Some(Box::pin(future)) }
    }
}

impl<Res, E> Future for ResponseFuture<Res, E> {
    type Output = Result<Res, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(inner) = &mut self.inner else {
            polled_after_completion("gateway::ResponseFuture")
        };
        let result = ready!(inner.as_mut().poll(cx));
        self.inner = None;
        Poll::Ready(result)
    }
}

impl<Res, E> fmt::Debug for ResponseFuture<Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
