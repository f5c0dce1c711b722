//! Refusals to gRPC requests as gRPC, for services that speak HTTP too.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::outcome::has_grpc;
use super::respond::write_head;
use crate::refusal::Refusal;

/// A layer for a router that serves both HTTP and gRPC. Refusals to gRPC requests become gRPC responses, as
/// [`RespondGrpc`](super::RespondGrpc) makes them. Refusals to all other requests stay unchanged.
///
/// A request is gRPC if its `content-type` begins with `application/grpc`. Put this layer outside of the layers that
/// refuse, and give those `.http()`. It finds their answers by the [`Refusal`] mark, and replaces status, body and the
/// fields of the body. It also removes
/// `WWW-Authenticate`. All other fields stay, for example `x-correlation-id`. A response without a mark passes unchanged:
/// the service made it. For gRPC-Web, put the layer that translates it to gRPC outside of this layer.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use buttress::rate_limit;
/// use buttress_http::{HttpLayerExt, grpc::ByContentTypeLayer};
/// use http::{Request, Response, StatusCode};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// let limiter = rate_limit::Config::new().max_tokens(1).build()?;
/// limiter.handle().try_acquire(1)?;
/// let route = ServiceBuilder::new()
///     .layer(ByContentTypeLayer)
///     .layer(limiter.http())
///     .service_fn(async |_: Request<String>| Ok::<_, BoxError>(Response::new(String::new())));
///
/// let plain = route.clone().oneshot(Request::default()).await?;
/// assert_eq!(plain.status(), StatusCode::TOO_MANY_REQUESTS);
/// let request = Request::post("/shop.Orders/Place").header("content-type", "application/grpc");
/// let refused = route.oneshot(request.body(String::new())?).await?;
/// assert_eq!(refused.status(), StatusCode::OK);
/// assert_eq!(refused.headers()["grpc-status"], "8");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ByContentTypeLayer;

impl<S> Layer<S> for ByContentTypeLayer {
    type Service = ByContentType<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ByContentType { inner }
    }
}

/// A service whose refusals to gRPC requests are gRPC. Made by [`ByContentTypeLayer`].
#[derive(Clone, Debug)]
pub struct ByContentType<S> {
    inner: S,
}

impl<S, A, B> Service<Request<A>> for ByContentType<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = ByContentTypeFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let is_grpc = has_grpc(request.headers());
        ByContentTypeFuture { future: self.inner.call(request), is_grpc }
    }
}

pin_project! {
    /// The response of a [`ByContentType`]. Dropping it drops the call.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ByContentTypeFuture<F> {
        #[pin]
        future: F,
        is_grpc: bool,
    }
}

impl<F, B, E> Future for ByContentTypeFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        Poll::Ready(if *this.is_grpc { result.map(in_grpc) } else { result })
    }
}

/// Returns a refusal as gRPC, and every other response unchanged.
fn in_grpc<B: Default>(response: Response<B>) -> Response<B> {
    let Some(error) = Refusal::of(&response).map(|refusal| refusal.error().clone()) else {
        return response;
    };
    let (mut head, _) = response.into_parts();
    head.status = StatusCode::OK;
    for of_the_body in [CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING, WWW_AUTHENTICATE] {
        head.headers.remove(of_the_body);
    }
    write_head(&mut head.headers, &error);
    Response::from_parts(head, B::default())
}
