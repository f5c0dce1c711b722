//! The layers over HTTP in both places. The service takes and returns bodies of axum; its error is boxed.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::routing::post;
use buttress::bulkhead::BulkheadLayer;
use buttress::circuit_breaker::CircuitBreakerLayer;
use buttress::idempotency::{Config, MemoryStore};
use buttress::rate_limit::RateLimitLayer;
use buttress::retry::RetryLayer;
use buttress::sidecar::SidecarLayer;
use buttress::time_limit::TimeLimitLayer;
use buttress::{Clock, ErrorKind};
use buttress_http::context::{ContextLayer, Trust};
use buttress_http::{
    BodyEnd, BodyTimeLimitLayer, ByStatus, HoldBodyLayer, HttpLayerExt, IdempotencyKeyLayer,
    IdempotentRequests, RateLimitFieldsLayer, ReplayLayer, RetryableStatus, SetIdempotencyKeyLayer,
};
use tower::util::{BoxCloneService, BoxCloneSyncService};
use tower::{BoxError, ServiceBuilder, ServiceExt};

use crate::support::ms;

/// A `POST` with a key, which every layer looks at.
fn request() -> Request<Body> {
    Request::post("/").header("idempotency-key", "\"k\"").body(Body::empty()).unwrap()
}

fn ok() -> Response<Body> {
    Response::new(Body::empty())
}

/// One row per stack, over a service that answers 200, boxed or not.
macro_rules! rows {
    ($($row:ident => $layer:expr;)*) => { $(
        mod $row {
            use super::*;

            #[tokio::test]
            async fn over_a_service() {
                let inner = tower::service_fn(async |_: Request<_>| Ok::<_, BoxError>(ok()));
                answers!(ServiceBuilder::new().layer($layer).service(inner));
            }

            #[tokio::test]
            async fn over_a_boxed_service() {
                let inner = tower::service_fn(async |_: Request<_>| Ok::<_, BoxError>(ok()));
                let inner = BoxCloneSyncService::new(inner);
                answers!(ServiceBuilder::new().layer($layer).service(inner));
            }

            #[tokio::test]
            async fn over_a_boxed_service_that_is_not_sync() {
                let inner = tower::service_fn(async |_: Request<_>| Ok::<_, BoxError>(ok()));
                let inner = BoxCloneService::new(inner);
                let service = ServiceBuilder::new().layer($layer).service(inner);
                let answer = tokio::spawn(async move { service.oneshot(request()).await });
                assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::OK);
            }
        }
    )* };
}

macro_rules! answers {
    ($service:expr) => {
        let service = $service;
        let sent = service.clone();
        let answer = tokio::spawn(async move { sent.oneshot(request()).await }).await.unwrap();
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
        let handler = move || {
            let service = service.clone();
            async move {
                match service.oneshot(request()).await {
                    Ok(response) => response.status(),
                    Err(_) => StatusCode::BAD_GATEWAY,
                }
            }
        };
        let router = Router::new().route("/", post(handler));
        assert_eq!(router.oneshot(request()).await.unwrap().status(), StatusCode::OK);
    };
}

rows! {
    a_limiter => RateLimitLayer::default().http();
    a_limiter_with_a_queue => RateLimitLayer::default().queued().http();
    the_fields_of_a_limiter => RateLimitFieldsLayer::new(RateLimitLayer::default().handle());
    a_bulkhead => BulkheadLayer::default().http();
    a_time_limit => TimeLimitLayer::after(ms(60_000)).http();
    a_breaker => CircuitBreakerLayer::default().http();
    a_breaker_of_a_client => CircuitBreakerLayer::default().classify(ByStatus::client());
    a_retry_of_a_client => RetryLayer::default()
        .classify(RetryableStatus::client())
        .clone_request(|_: &Request<Body>| None::<Request<Body>>);
    a_retry_of_streamed_bodies => ServiceBuilder::new().layer(ReplayLayer::default()).layer(
        RetryLayer::default().classify(RetryableStatus::client()).clone_with(IdempotentRequests),
    );
    permits_until_the_body_ends => ServiceBuilder::new()
        .layer(BulkheadLayer::default().queued().http().until(BodyEnd::new()))
        .layer(BulkheadLayer::default().http().until(BodyEnd::new()).leak())
        .layer(BulkheadLayer::default().backpressure().until(BodyEnd::new()))
        .layer(HoldBodyLayer);
    an_outcome_when_the_body_ends => ServiceBuilder::new()
        .layer(CircuitBreakerLayer::default().http().until(BodyEnd::new()))
        .layer(CircuitBreakerLayer::default().until(BodyEnd::new()).backpressure())
        .layer(HoldBodyLayer);
    a_limit_on_the_body => ServiceBuilder::new()
        .layer(BodyTimeLimitLayer::idle(&TimeLimitLayer::after(ms(60_000)).handle()))
        .layer(HoldBodyLayer);
    a_sidecar => SidecarLayer::default()
        .clone_request(|_: &Request<Body>| None::<Request<Body>>);
    a_context_of_a_server => ContextLayer::server(Trust::All);
    a_context_of_a_client => ContextLayer::client();
    a_key_that_is_set => SetIdempotencyKeyLayer::default();
    a_key_that_is_kept => {
        let config = Config::new();
        IdempotencyKeyLayer::unscoped(config, MemoryStore::new(Clock::default())).unwrap()
    };
    a_key_that_is_kept_without_its_payload => {
        let store = MemoryStore::new(Clock::default());
        IdempotencyKeyLayer::unscoped(Config::new(), store).unwrap().ignore_payload()
    };
}

/// Layers recognize the refusal of a layer below through the boxed error, in a task.
#[tokio::test]
async fn a_refusal_is_an_answer_in_a_task() {
    let limiter = RateLimitLayer::default();
    limiter.handle().try_acquire(limiter.handle().available()).unwrap();
    let service =
        ServiceBuilder::new().layer(limiter.http()).service_fn(async |_: Request<Body>| {
            Ok::<Response<Body>, BoxError>(Response::new(Body::empty()))
        });
    let answer = tokio::spawn(async move { service.oneshot(request()).await }).await.unwrap();
    let response: Response<Body> = answer.unwrap();
    assert_eq!(response.status().as_u16(), ErrorKind::RateLimited.http_status());
}
