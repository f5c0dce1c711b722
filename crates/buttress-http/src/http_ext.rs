use buttress::balance::Balance;
use buttress::bulkhead::{BulkheadLayer, KeyedBulkheadLayer};
use buttress::circuit_breaker::{CircuitBreakerLayer, KeyedCircuitBreakerLayer};
use buttress::fallback::{FallbackLayer, FromResult, ToService, Value};
use buttress::rate_limit::{KeyedRateLimitLayer, RateLimitLayer, Rules};
use buttress::retry::{ByClone, RetryLayer};
use buttress::sidecar::SidecarLayer;
use buttress::time_limit::TimeLimitLayer;
use buttress::{AnyError, AsError, Outcome, Own, RetryableErrors, ServiceErrors};

use crate::choices::choices;
use crate::{ByStatus, IdempotentRequests, Respond, RetryableStatus};

/// An extension of layers with `.http()`, which sets a layer's choices for HTTP. It is on every
/// layer that still has its default rejector and classifier.
///
/// | layer | choices |
/// |---|---|
/// | bulkhead, rate limit (also keyed), time limit | [`Respond`] |
/// | circuit breaker (also keyed), balance | [`Respond`] and [`ByStatus::route`] |
/// | retry | [`RetryableStatus::route`] and [`IdempotentRequests`] |
/// | fallback: `value`, `service`, `from_result` | [`ByStatus::route`], with refusals as failures |
/// | sidecar | the choices of retry and circuit breaker |
///
/// A retry needs a request whose body it can send again, a
/// [`RepeatableBody`](crate::RepeatableBody). A body that is `Clone` is one. For streaming bodies
/// put a [`ReplayLayer`](crate::ReplayLayer) outside of the retry or sidecar.
///
/// A fallback counts an answered refusal as a failure, because a fallback answers for an open
/// circuit. The kinds `from_error` and `from_request` have no `.http()`: they replace errors only,
/// and a failed *response* is not an error.
///
/// [`Respond`] needs a body that converts from a `String` ([`FromProblem`](crate::FromProblem)).
/// The body of a route usually does, and the body of a client usually does not.
///
/// Every error counts as a failure. That is right if every layer further in answers its refusals as
/// responses. If a layer returns refusals as errors (the default without `.http()`), set
/// [`ByStatus::client`] or [`RetryableStatus::client`] by hand.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{convert::Infallible, time::Duration};
/// use buttress::circuit_breaker::CircuitBreakerLayer;
/// use buttress::time_limit::{Config, TimeLimitLayer};
/// use buttress_http::HttpLayerExt;
/// use http::{Request, Response, StatusCode};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let route = ServiceBuilder::new()
///     .layer(CircuitBreakerLayer::default().http())
///     .layer(TimeLimitLayer::new(Config::new(Duration::from_secs(1)))?.http())
///     .service_fn(async |_: Request<String>| {
///         std::future::pending::<()>().await;
///         Ok::<Response<String>, Infallible>(Response::default())
///     });
/// let response = route.oneshot(Request::default()).await?;
/// assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
/// # Ok(())
/// # }
/// ```
///
/// Only layers of buttress implement the trait:
///
/// ```compile_fail
/// struct Mine;
/// impl buttress_http::HttpLayerExt for Mine {
///     type Http = Self;
///     fn http(self) -> Self {
///         self
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no `.http()`",
    note = "`.http()` starts from the defaults of a layer: call it first, then `.reject(..)` or `.classify(..)`"
)]
pub trait HttpLayerExt: sealed::Layer {
    /// The type of the layer with its choices for HTTP.
    type Http;

    /// Sets the choices for HTTP. A later call of `.reject(..)` or `.classify(..)` replaces them.
    #[must_use]
    fn http(self) -> Self::Http;
}

pub(crate) mod sealed {
    use super::*;

    pub trait Layer {}

    pub trait Kind {}

    impl<S, X, T, C, R> Layer for Balance<S, X, T, C, R> {}

    impl<R, M, O: Own, U> Layer for BulkheadLayer<R, M, O, U> {}

    impl<R, W, M> Layer for RateLimitLayer<R, W, M> {}

    impl<L, R> Layer for TimeLimitLayer<L, R> {}

    impl<K, X, R, U> Layer for KeyedBulkheadLayer<K, X, R, U> {}

    impl<K, X, R, W, P: Rules<K>> Layer for KeyedRateLimitLayer<K, X, R, W, P> {}

    impl<K, X, C, R, U> Layer for KeyedCircuitBreakerLayer<K, X, C, R, U> {}

    impl<C, R, M, O: Own, U> Layer for CircuitBreakerLayer<C, R, M, O, U> {}

    impl<C, Q> Layer for RetryLayer<C, Q> {}

    impl<F, C> Layer for FallbackLayer<F, C> {}

    impl<C, T, Q, R> Layer for SidecarLayer<C, T, Q, R> {}

    impl<T> Kind for Value<T> {}

    impl<F> Kind for FromResult<F> {}

    impl<S, M> Kind for ToService<S, M> {}
}

choices!(HttpLayerExt, Http, http, Respond);

/// The kinds of fallback that answer a failed response as well as an error. No type outside of this
/// crate implements the trait:
///
/// ```compile_fail
/// struct Mine;
/// impl buttress_http::AnswersForResponses for Mine {}
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no answer to a failed response, only to an error",
    label = "judging responses by status would change nothing for this fallback",
    note = "use `FallbackLayer::from_result` or `service`, or `value` for a response that is `Clone`; or remove `.http()`"
)]
pub trait AnswersForResponses: sealed::Kind {}

impl<T> AnswersForResponses for Value<T> {}

impl<F> AnswersForResponses for FromResult<F> {}

impl<S, M> AnswersForResponses for ToService<S, M> {}

#[cfg(test)]
mod tests;
