//! HTTP for [`buttress`]: layers that answer, classify and repeat by the rules of HTTP.
//!
//! | task | type |
//! |---|---|
//! | set the choices for HTTP on a layer | [`HttpLayerExt`]: `.http()` |
//! | set the choices for gRPC on a layer | [`grpc::GrpcLayerExt`]: `.grpc()` |
//! | give a gRPC call one deadline for all of its attempts | [`grpc::DeadlineLayer`] |
//! | serve HTTP and gRPC by one router | [`grpc::ByContentTypeLayer`] |
//! | answer refusals as responses: 401, 403, 429, 503, 504, `Retry-After`, a problem document | [`Respond`] |
//! | distinguish a refusal from an answer of the service | [`Refusal`] |
//! | judge a response by status, for a breaker or a fallback | [`ByStatus`] |
//! | judge a response by status, for a retry that honours `Retry-After` | [`RetryableStatus`] |
//! | repeat only requests that may be repeated | [`IdempotentRequests`] |
//! | repeat requests with streaming bodies | [`ReplayLayer`] |
//! | run a request once, however often the client sends it | [`IdempotencyKeyLayer`] |
//! | send an `Idempotency-Key` with every request | [`SetIdempotencyKeyLayer`] |
//! | find out for a saga whether a status is definite | [`is_definite_refusal`] |
//! | report the state of a limit to callers | [`RateLimitFieldsLayer`], [`KeyedRateLimitFieldsLayer`] |
//! | keep a permit, or wait with an outcome, until the body ends | [`BodyEnd`] and [`HoldBodyLayer`] |
//! | limit each wait for a frame of a body, or the time of the whole body | [`BodyTimeLimitLayer`] |
//! | carry correlation id, trace and deadline between services | [`context`] |
//! | limit per client: by address, behind proxies, by header | [`client_key`] |
//! | build an axum service with limits per client and per plan, a bounded shutdown and a context | [`guide::service`] |
//! | hold permits while bodies stream | [`guide::streaming`] |
//! | build a stack around hyper-util's client or reqwest | [`guide::clients`] |
//! | build a stack around a tonic client or server | [`guide::tonic`] |
//! | choose a side of a split by header, and fall back to the old one | [`split`] |
//! | mirror safe requests, and compare responses | [`shadow`] |
//! | answer with the page of an aggregate, and name the missing parts | [`aggregate`] |
//! | answer the probes of a platform | [`health_service`], [`health_details_service`] |
//! | show live circuits and limits to operators, and let them act | the module `status`, with feature `status` |
//! | read or write `Retry-After` yourself | [`retry_after`] |
//!
//! The layers work on [`http::Request`] and [`http::Response`] with any body, and so with axum,
//! hyper, tonic and tower-http. Layers that make or repeat a body have conditions:
//!
//! - [`Respond`], and so `.http()`, makes a body of a `String`. `axum::body::Body`, `Full<Bytes>` and `String` convert
//!   from it. `hyper::body::Incoming`, the body of hyper's clients, `tonic::body::Body` and boxed bodies do not. In
//!   front of such services, make the answer with [`Respond::with`]. Around a client, return refusals as errors.
//! - A retry repeats bodies that are `Clone`, and under a [`ReplayLayer`] all others that are
//!   `Unpin`. A client that accepts only one type of body needs a
//!   `.map_request(|request: Request<_>| request.map(Body::new))` further in than the retry.
//!
//! A gRPC call that failed is `200 OK` with a `grpc-status`. [`ByStatus`] and [`RetryableStatus`]
//! see the status in a header, and not in trailers after a body; a circuit breaker with a [`BodyEnd`]
//! counts both. In front of a tonic service or client, give the layers `.grpc()`: see [`grpc`].
//!
//! This crate does not access the network.
//!
//! # In front of a route
//!
//! A route of axum cannot fail: its error is `Infallible`. So every layer answers its own refusals,
//! and no `HandleErrorLayer` is needed. The same stack works in `Router::layer`. Make the layers
//! once. axum applies a layer to every route, and only clones of one layer value share state.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{convert::Infallible, time::Duration};
//! use buttress::{bulkhead, rate_limit, time_limit};
//! use buttress_http::{HttpLayerExt, RateLimitFieldsLayer};
//! use http::{Request, Response, StatusCode};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! let limiter = rate_limit::RateLimitLayer::new(rate_limit::Config::new().max_tokens(1))?;
//! let bulkhead = bulkhead::BulkheadLayer::new(bulkhead::Config::new().name("orders"))?;
//! let limit = time_limit::TimeLimitLayer::new(time_limit::Config::new(Duration::from_secs(5)))?;
//!
//! let stack = ServiceBuilder::new()
//!     .layer(RateLimitFieldsLayer::new(limiter.handle()))
//!     .layer(limiter.http())
//!     .layer(bulkhead.http())
//!     .layer(limit.http());
//! // With axum: `Router::new().route("/orders", get(orders)).layer(stack)`
//! let route = stack.service_fn(async |_: Request<String>| {
//!     Ok::<_, Infallible>(Response::new(String::from("no orders")))
//! });
//!
//! let served = route.clone().oneshot(Request::default()).await?;
//! assert_eq!(served.status(), StatusCode::OK);
//! let refused = route.oneshot(Request::default()).await?;
//! assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
//! assert_eq!(refused.headers()["retry-after"], "1");
//! assert_eq!(refused.headers()["ratelimit"], r#""default";r=0;t=1"#);
//! # Ok(())
//! # }
//! ```
//!
//! # Around a client
//!
//! A client can fail, so its refusals may be errors. With `BoxError` at the bottom of the stack no
//! layer needs a rejector. The `client()` classifiers find refusals among the errors. The layers
//! from the outside in are: repeatable bodies, retry, circuit breaker, time limit per attempt. The breaker
//! is inside of the retry, so that it counts every request that the server gets, and an open circuit ends
//! the attempts of a call in progress.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use std::time::Duration;
//! use buttress::{circuit_breaker::CircuitBreakerLayer, retry::RetryLayer, time_limit};
//! use buttress_http::{Attempt, ByStatus, IdempotentRequests, ReplayLayer, RetryableStatus};
//! use http::{Request, Response};
//! use tower::{BoxError, ServiceBuilder, ServiceExt};
//!
//! let retry = RetryLayer::default()
//!     .classify(RetryableStatus::client())
//!     .clone_with(IdempotentRequests);
//! let limit = time_limit::TimeLimitLayer::new(time_limit::Config::new(Duration::from_secs(1)))?;
//! let client = ServiceBuilder::new()
//!     .layer(ReplayLayer::default())
//!     .layer(retry)
//!     .layer(CircuitBreakerLayer::default().classify(ByStatus::client()))
//!     .layer(limit)
//!     .map_err(BoxError::from)
//!     .service_fn(async |request: Request<_>| match request.extensions().get() {
//!         Some(Attempt(1)) => Err(std::io::Error::other("connection reset")),
//!         _ => Ok(Response::new("here you are")),
//!     });
//!
//! let body = http_body_util::Full::<bytes::Bytes>::default();
//! let response = client.oneshot(Request::get("/orders").body(body)?).await?;
//! assert_eq!(*response.body(), "here you are");
//! # Ok(())
//! # }
//! ```
//!
//! # When a call ends
//!
//! By default a call ends with the head of the response, for every layer. A body that still streams
//! holds no permit, has no time limit and counts for no circuit. With [`BodyEnd`] a bulkhead keeps its
//! permit, and a circuit breaker waits with its outcome, until the body ends: see
//! [`guide::streaming`].

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod aggregate;
mod at_once;
mod body_end;
mod by_status;
mod choices;
pub mod client_key;
pub mod context;
mod definite;
mod ended;
mod frame;
pub mod grpc;
pub mod guide;
mod head;
pub mod health;
mod hint;
mod http_ext;
pub mod idempotency_key;
mod json;
mod layered;
mod mapped;
mod problem;
mod rate_limit_fields;
mod refusal_mark;
mod repeat;
mod replay;
#[cfg(feature = "reqwest")]
mod reqwest_types;
mod respond;
pub mod retry_after;
mod retryable_status;
pub mod shadow;
pub mod split;
#[cfg(feature = "status")]
pub mod status;
mod status_rules;
#[cfg(test)]
mod testing;
mod writer;

pub use body_end::{
    BodyEnd, BodyTimeLimit, BodyTimeLimitFuture, BodyTimeLimitLayer, Held, HoldBodies, HoldBody,
    HoldBodyFuture, HoldBodyLayer,
};
pub use by_status::ByStatus;
pub use definite::is_definite_refusal;
pub use head::HttpResponse;
pub use health::{HealthDetailsService, HealthService, health_details_service, health_service};
pub use http_ext::{AnswersForResponses, HttpLayerExt};
pub use idempotency_key::{IdempotencyKeyLayer, SetIdempotencyKeyLayer};
pub use mapped::{Mapped, MappedFuture};
pub use problem::FromProblem;
pub use rate_limit_fields::{
    KeyedRateLimitFields, KeyedRateLimitFieldsFuture, KeyedRateLimitFieldsLayer, RateLimitFields,
    RateLimitFieldsFuture, RateLimitFieldsLayer,
};
pub use refusal_mark::Refusal;
pub use repeat::{Attempt, IdempotentRequests, Repeatable, RepeatableBody};
pub use replay::{Replay, ReplayBody, ReplayError, ReplayLayer};
pub use respond::{Respond, RespondChallenge, RespondWith};
pub use retryable_status::RetryableStatus;
