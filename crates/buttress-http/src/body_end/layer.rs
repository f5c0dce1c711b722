use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::body::HoldBody;

/// A layer that makes the bodies of responses hold calls: it wraps `Response<B>` into
/// `Response<HoldBody<B>>`.
///
/// Put it further in than every layer with a [`BodyEnd`](super::BodyEnd). One is enough for all of
/// them, unless a layer between them replaces the body, as an
/// [`IdempotencyKeyLayer`](crate::IdempotencyKeyLayer) does. The layers further out than such a
/// layer need another `HoldBodyLayer`, directly outside of it.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct HoldBodyLayer;

impl<S> Layer<S> for HoldBodyLayer {
    type Service = HoldBodies<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HoldBodies { inner }
    }
}

/// A service whose responses have bodies that hold calls. [`HoldBodyLayer`] makes it.
#[derive(Clone, Copy, Debug)]
pub struct HoldBodies<S> {
    inner: S,
}

impl<S, Req, B> Service<Req> for HoldBodies<S>
where
    S: Service<Req, Response = Response<B>>,
{
    type Response = Response<HoldBody<B>>;
    type Error = S::Error;
    type Future = HoldBodyFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        HoldBodyFuture { future: self.inner.call(request) }
    }
}

pin_project! {
    /// The response of a [`HoldBodies`]. Dropping it cancels the call.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct HoldBodyFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F, B, E> Future for HoldBodyFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<HoldBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map_ok(|response| response.map(HoldBody::new))
    }
}
