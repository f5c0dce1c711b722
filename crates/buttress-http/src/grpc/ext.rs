use buttress::balance::Balance;
use buttress::bulkhead::{BulkheadLayer, KeyedBulkheadLayer};
use buttress::circuit_breaker::{CircuitBreakerLayer, KeyedCircuitBreakerLayer};
use buttress::fallback::FallbackLayer;
use buttress::rate_limit::{KeyedRateLimitLayer, RateLimitLayer, Rules};
use buttress::retry::{ByClone, RetryLayer};
use buttress::sidecar::SidecarLayer;
use buttress::time_limit::TimeLimitLayer;
use buttress::{AnyError, AsError, Outcome, Own, RetryableErrors, ServiceErrors};

use super::respond::RespondGrpc;
use crate::choices::choices;
use crate::context::ServerContextLayer;
use crate::http_ext::sealed;
use crate::{AnswersForResponses, ByStatus, IdempotentRequests, Respond, RetryableStatus};

/// An extension of layers with `.grpc()`, which sets a layer's choices for gRPC, on a server and on a client. It is on
/// every layer that still has its default rejector and classifier.
///
/// | layer | choices |
/// |---|---|
/// | bulkhead, rate limit (also keyed), time limit | [`RespondGrpc`] |
/// | circuit breaker (also keyed), balance | [`RespondGrpc`] and [`ByStatus::route`] |
/// | retry | [`RetryableStatus::route`] and [`IdempotentRequests`] |
/// | fallback: `value`, `service`, `from_result` | [`ByStatus::route`], with refusals as failures |
/// | sidecar | the choices of retry and circuit breaker |
/// | [`ContextLayer::server`](crate::context::ContextLayer::server) | [`RespondGrpc`] |
///
/// Every layer then answers its own refusals as responses, so the error type of a client stays the error type of its
/// channel. A gRPC library reads the code from the response. A tonic client therefore gets a refusal as a `Status` with
/// the code of [`RespondGrpc`].
///
/// A gRPC request is a `POST`, so a retry repeats only requests with [`Repeatable`](crate::Repeatable) in their
/// extensions. For streaming bodies, which tonic has, put a [`ReplayLayer`](crate::ReplayLayer) outside of the retry or
/// sidecar.
///
/// Every error counts as a failure, as with [`.http()`](crate::HttpLayerExt). So give `.grpc()` to all layers of a stack.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use buttress::circuit_breaker::CircuitBreakerLayer;
/// use buttress_http::grpc::GrpcLayerExt;
/// use http::{Request, Response};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// let breaker = CircuitBreakerLayer::default();
/// breaker.handle().force_open();
/// let client = ServiceBuilder::new()
///     .layer(breaker.grpc())
///     .service_fn(async |_: Request<String>| Ok::<_, BoxError>(Response::new(String::new())));
/// let refused = client.oneshot(Request::default()).await?;
/// assert_eq!(refused.headers()["grpc-status"], "14");
/// assert_eq!(refused.headers()["grpc-message"], "the service is unavailable for the moment");
/// # Ok(())
/// # }
/// ```
///
/// Only layers of buttress implement the trait:
///
/// ```compile_fail
/// struct Mine;
/// impl buttress_http::grpc::GrpcLayerExt for Mine {
///     type Grpc = Self;
///     fn grpc(self) -> Self {
///         self
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no `.grpc()`",
    note = "`.grpc()` starts from the defaults of a layer: call it first, then `.reject(..)` or `.classify(..)`"
)]
pub trait GrpcLayerExt: sealed::Layer {
    /// The type of the layer with its choices for gRPC.
    type Grpc;

    /// Sets the choices for gRPC. A later call of `.reject(..)` or `.classify(..)` replaces them.
    #[must_use]
    fn grpc(self) -> Self::Grpc;
}

impl sealed::Layer for ServerContextLayer {}

impl GrpcLayerExt for ServerContextLayer<Respond> {
    type Grpc = ServerContextLayer<RespondGrpc>;

    fn grpc(self) -> Self::Grpc {
        self.reject(RespondGrpc)
    }
}

choices!(GrpcLayerExt, Grpc, grpc, RespondGrpc);
