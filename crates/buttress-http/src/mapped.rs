//! [`Mapped`]: a service whose responses a layer changes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::Service;

/// A change of responses of type `Res`.
pub trait MapResponse<Res> {
    /// The type of the changed responses.
    type Response;

    /// Returns the changed `response`.
    fn map(&self, response: Res) -> Self::Response;
}

/// A service whose responses a layer changes. `M` is the change. The layers of this crate define
/// aliases of it.
#[derive(Clone, Copy, Debug)]
pub struct Mapped<S, M> {
    inner: S,
    map: M,
}

impl<S, M> Mapped<S, M> {
    pub(crate) const fn new(inner: S, map: M) -> Self {
        Self { inner, map }
    }
}

impl<S, M, Req> Service<Req> for Mapped<S, M>
where
    S: Service<Req>,
    M: MapResponse<S::Response> + Clone,
{
    type Response = M::Response;
    type Error = S::Error;
    type Future = MappedFuture<S::Future, M>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        MappedFuture::new(self.inner.call(request), self.map.clone())
    }
}

pin_project! {
    /// The response of a [`Mapped`] service. Dropping it cancels the call.
    #[must_use = "futures do nothing unless polled"]
    pub struct MappedFuture<F, M> {
        #[pin]
        future: F,
        map: M,
    }
}

impl<F, M> MappedFuture<F, M> {
    pub(crate) const fn new(future: F, map: M) -> Self {
        Self { future, map }
    }
}

impl<F, M, Res, E> Future for MappedFuture<F, M>
where
    F: Future<Output = Result<Res, E>>,
    M: MapResponse<Res>,
{
    type Output = Result<M::Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.future.poll(cx).map_ok(|response| this.map.map(response))
    }
}

impl<F: fmt::Debug, M> fmt::Debug for MappedFuture<F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedFuture").field("future", &self.future).finish_non_exhaustive()
    }
}
