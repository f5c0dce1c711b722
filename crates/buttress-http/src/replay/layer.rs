use std::task::{Context, Poll};

use http::Request;
use tower::Service;

use super::body::ReplayBody;
use crate::layered::layered;

/// The default cap on the recording of a body, in bytes.
const DEFAULT_CAP: usize = 64 * 1024;

/// A layer that makes the bodies of requests repeatable for a retry further in. It wraps
/// `Request<B>` into `Request<ReplayBody<B>>`. The retry must be further in, because the layer
/// makes one recording per request.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// use std::convert::Infallible;
/// use buttress::retry::RetryLayer;
/// use buttress_http::{Attempt, HttpLayerExt, ReplayBody, ReplayLayer};
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// // A client that accepts any body, as hyper's does.
/// type Upload = ReplayBody<Full<&'static [u8]>>;
/// async fn send(request: Request<Upload>) -> Result<Response<usize>, BoxError> {
///     let first = request.extensions().get() == Some(&Attempt(1));
///     let received = request.into_body().collect().await?.to_bytes();
///     let status = if first { 503 } else { 200 };
///     Ok(Response::builder().status(status).body(received.len())?)
/// }
///
/// let client = ServiceBuilder::new()
///     .layer(ReplayLayer::default())
///     .layer(RetryLayer::default().http())
///     .service_fn(send);
/// let request = Request::put("/seats/7").body(Full::from(b"taken".as_slice()))?;
/// let response = client.oneshot(request).await?;
/// assert_eq!((response.status().as_u16(), *response.body()), (200, 5));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ReplayLayer {
    cap: usize,
}

impl ReplayLayer {
    /// Records up to `cap` bytes of each body. A longer body is sent once. Each request in flight
    /// may hold `cap` bytes. With a cap of 0, only empty bodies can be repeated.
    pub const fn new(cap: usize) -> Self {
        Self { cap }
    }
}

impl Default for ReplayLayer {
    /// Records up to 64 KiB of each body. Most bodies of API calls are shorter. A thousand requests
    /// in flight hold at most 64 MiB.
    fn default() -> Self {
        Self::new(DEFAULT_CAP)
    }
}

layered!(ReplayLayer => Replay, |layer, inner| Replay { inner, cap: layer.cap });

/// A service that makes the bodies of its requests repeatable. Made by [`ReplayLayer`].
#[derive(Clone, Copy, Debug)]
pub struct Replay<S> {
    inner: S,
    cap: usize,
}

impl<S, B> Service<Request<B>> for Replay<S>
where
    S: Service<Request<ReplayBody<B>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.inner.call(request.map(|body| ReplayBody::new(body, self.cap)))
    }
}
