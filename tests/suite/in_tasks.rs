//! Every layer, unboxed, in an async block that is sent to another thread: in `tokio::spawn`, and
//! in a handler of axum. The compiler's `Send` check of a block erases that its types are
//! `'static`.

mod by_hand;
mod over_http;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::routing::get;
use buttress::bulkhead::{BulkheadLayer, Config as Wall, KeyedBulkheadLayer};
use buttress::circuit_breaker::{CircuitBreakerLayer, Config as Circuit, KeyedCircuitBreakerLayer};
use buttress::fallback::FallbackLayer;
use buttress::gateway::{Gateway, Route};
use buttress::idempotency::{Config as Keys, IdempotencyLayer, Key, MemoryStore};
use buttress::rate_limit::{Config as Limit, KeyedRateLimitLayer, RateLimitLayer};
use buttress::retry::RetryLayer;
use buttress::sidecar::{Config as Parts, SidecarLayer};
use buttress::time_limit::{Config as Time, TimeLimitLayer};
use buttress::{AnyError, AsRefusal, Clock, ErrorKind};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt};

use crate::support::ms;

/// One row per stack: both places, over a service whose error is boxed. Closures over the service
/// are async, as in user code, so that the test is as strict.
macro_rules! rows {
    ($($row:ident => $layer:expr;)*) => { $(
        #[tokio::test]
        async fn $row() {
            let service = ServiceBuilder::new()
                .layer($layer)
                .service_fn(async |n: u32| Ok::<u32, BoxError>(n + 1));
            answers!(service);
        }
    )* };
}

macro_rules! answers {
    ($service:expr) => {
        let service = $service;
        let sent = service.clone();
        let answer = tokio::spawn(async move { sent.oneshot(7).await }).await.unwrap();
        assert_eq!(answer.unwrap(), 8);
        let handler = move || {
            let service = service.clone();
            async move {
                match service.oneshot(41).await {
                    Ok(n) => n.to_string(),
                    Err(error) => error.to_string(),
                }
            }
        };
        let router = Router::new().route("/", get(handler));
        let response =
            router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(to_bytes(response.into_body(), 100).await.unwrap(), "42");
    };
}

rows! {
    a_retry => RetryLayer::default();
    a_retry_of_requests_copied_by_hand => RetryLayer::default().clone_request(|n: &u32| Some(*n));
    a_retry_of_any_error => RetryLayer::default().classify(AnyError);
    a_breaker => CircuitBreakerLayer::default();
    a_breaker_with_backpressure => CircuitBreakerLayer::default().backpressure();
    a_breaker_per_key => KeyedCircuitBreakerLayer::new(Circuit::new(), 9, |n: &u32| *n).unwrap();
    a_limiter => RateLimitLayer::default();
    a_limiter_with_a_queue => RateLimitLayer::default().queued();
    a_limiter_with_backpressure => RateLimitLayer::default().backpressure();
    a_limiter_per_key => KeyedRateLimitLayer::new(Limit::new(), 9, |n: &u32| *n).unwrap();
    a_bulkhead => BulkheadLayer::default();
    a_bulkhead_with_a_queue => BulkheadLayer::default().queued();
    a_bulkhead_with_backpressure => BulkheadLayer::default().backpressure();
    a_bulkhead_per_key => KeyedBulkheadLayer::new(Wall::new(), 9, |n: &u32| *n).unwrap();
    a_time_limit => TimeLimitLayer::new(Time::new(ms(60_000))).unwrap();
    a_fallback_value => FallbackLayer::value(0u32);
    a_fallback_service => {
        FallbackLayer::service(tower::service_fn(async |n: u32| Ok::<u32, BoxError>(n)))
    };
    a_sidecar => SidecarLayer::default();
    a_sidecar_with_a_limiter => SidecarLayer::new(Parts::new().rate_limit(Limit::new())).unwrap();
    idempotency => {
        let key = |n: &u32| Key::new(&n.to_string());
        IdempotencyLayer::new(Keys::new(), MemoryStore::<u32>::default(), key).unwrap()
    };
}

/// The layer is inside of the box. Over a boxed service it needs `'static`, which the check erases.
#[tokio::test]
async fn idempotency_in_a_box() {
    let key = |n: &u32| Key::new(&n.to_string());
    let inner = tower::service_fn(async |n: u32| Ok::<u32, BoxError>(n + 1));
    let service = ServiceBuilder::new()
        .layer(IdempotencyLayer::new(Keys::new(), MemoryStore::<u32>::default(), key).unwrap())
        .service(BoxCloneSyncService::new(inner));
    answers!(BoxCloneSyncService::new(service));
}

#[tokio::test]
async fn a_gateway() {
    let backend = tower::service_fn(async |n: u32| Ok::<u32, BoxError>(n + 1));
    let route = Route::new("all").backend(backend).time_limit(ms(60_000));
    let gateway = Gateway::new("edge", Clock::default(), |_: &u32| Some("all"), [route]).unwrap();
    answers!(gateway);
}

#[tokio::test]
async fn all_of_them_in_one_stack() {
    let service = ServiceBuilder::new()
        .layer(FallbackLayer::value(0u32))
        .layer(CircuitBreakerLayer::default())
        .layer(BulkheadLayer::default().queued())
        .layer(RetryLayer::default())
        .layer(TimeLimitLayer::new(Time::new(ms(60_000))).unwrap())
        .service_fn(async |n: u32| Ok::<u32, BoxError>(n + 1));
    answers!(service);
}

/// The retry and the breaker find the refusal in the box, there too.
#[tokio::test]
async fn a_refusal_is_recognised_in_a_box_that_an_async_block_holds() {
    let inner = CircuitBreakerLayer::default();
    inner.handle().force_open();
    let outer = CircuitBreakerLayer::new(Circuit::new().consecutive_failures(1)).unwrap();
    let circuit = outer.handle();
    let service = ServiceBuilder::new()
        .layer(outer)
        .layer(RetryLayer::default())
        .layer(inner)
        .service_fn(async |n: u32| Ok::<u32, BoxError>(n));
    let sent = tokio::spawn(async move { service.oneshot(7).await.map_err(|e| kind(&e)) });
    assert_eq!(sent.await.unwrap(), Err(Some(ErrorKind::CircuitOpen)));
    assert_eq!(circuit.stats().failures, 0, "no failure of the service");
}

fn kind(error: &BoxError) -> Option<ErrorKind> {
    error.as_refusal().map(buttress::Error::kind)
}
