//! Refusals to gRPC requests as gRPC, for services that speak HTTP too.

use std::task::{Context, Poll};

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use tower::Service;

use super::respond::write_head;
use super::status_code::has_grpc;
use crate::layered::layered;
use crate::mapped::{MapResponse, MappedFuture};
use crate::refusal_mark::Refusal;

/// A layer for a router that serves both HTTP and gRPC. Refusals to gRPC requests become gRPC responses, as
/// [`RespondGrpc`](super::RespondGrpc) makes them. Refusals to all other requests stay unchanged.
///
/// A request is gRPC if it is a POST whose `content-type` begins with `application/grpc`. gRPC knows no other method,
/// and a cache could keep the `200 OK` of the refusal of a GET. Put this layer outside of the layers that refuse, and
/// give these layers `.http()`. It finds their answers by the [`Refusal`] mark, and replaces status, body and the
/// fields of the body. It also removes `WWW-Authenticate`. All other fields stay, for example `x-correlation-id`. A
/// response without a mark passes unchanged: the service made it. For gRPC-Web, put the layer that translates it to
/// gRPC outside of this layer.
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

layered!(ByContentTypeLayer => ByContentType, |_layer, inner| ByContentType { inner });

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
        let is_grpc = request.method() == Method::POST && has_grpc(request.headers());
        MappedFuture::new(self.inner.call(request), InGrpc { is_grpc })
    }
}

/// The response of a [`ByContentType`]. Dropping it drops the call.
pub type ByContentTypeFuture<F> = MappedFuture<F, InGrpc>;

/// The change of a response: a refusal becomes gRPC, if its request was gRPC.
#[derive(Clone, Copy, Debug)]
pub struct InGrpc {
    is_grpc: bool,
}

impl<B: Default> MapResponse<Response<B>> for InGrpc {
    type Response = Response<B>;

    fn map(&self, response: Response<B>) -> Self::Response {
        if self.is_grpc { in_grpc(response) } else { response }
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
