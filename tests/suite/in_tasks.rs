//! Every layer, unboxed, in an async block that is sent to another thread: in `tokio::spawn`, and
//! in a handler of axum. The compiler's `Send` check of a block erases that its types are
//! `'static`.

mod by_hand;
mod durable;
mod over_http;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::Request;
use axum::routing::get;
use buttress::bulkhead::{BulkheadLayer, Config as Wall, KeyedBulkheadLayer};
use buttress::circuit_breaker::{CircuitBreakerLayer, Config as Circuit, KeyedCircuitBreakerLayer};
use buttress::fallback::FallbackLayer;
use buttress::gateway::{Decision, Gateway, Route};
use buttress::idempotency::{
    Config as Keys, Fingerprint, IdempotencyLayer, Key, MemoryStore, WithClaim,
};
use buttress::rate_limit::{Config as Limit, KeyedRateLimitLayer, RateLimitLayer};
use buttress::retry::RetryLayer;
use buttress::sidecar::{Config as Parts, SidecarLayer};
use buttress::telemetry::DurationLayer;
use buttress::time_limit::{Config as Time, TimeLimitLayer};
use buttress::{AnyError, AsRefusal, Clock, ErrorKind};
use tower::util::{BoxCloneService, BoxCloneSyncService, BoxService};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt};

use crate::support::ms;

/// One row per stack: both places, over a service whose error is boxed, and over services that are
/// boxed themselves. Closures over the service are async, as in user code, so that the test is as
/// strict.
macro_rules! rows {
    ($($row:ident => $layer:expr;)*) => { $(
        mod $row {
            use super::*;

            #[tokio::test]
            async fn over_a_service() {
                answers!(ServiceBuilder::new().layer($layer).service(adds_one!()));
            }

            #[tokio::test]
            async fn over_a_boxed_service() {
                let inner = BoxCloneSyncService::new(adds_one!());
                answers!(ServiceBuilder::new().layer($layer).service(inner));
            }

            #[tokio::test]
            async fn over_a_boxed_service_that_is_not_sync() {
                answers_where_it_is_made!(
                    ServiceBuilder::new().layer($layer).service(BoxCloneService::new(adds_one!()))
                );
            }
        }
    )* };
}

/// Rows of layers that ask for no `Clone` of the service.
macro_rules! rows_without_clone {
    ($($row:ident => $layer:expr;)*) => {
        rows! { $($row => $layer;)* }

        mod over_a_boxed_service_that_is_not_clone {
            use super::*;
            $(
                #[tokio::test]
                async fn $row() {
                    answers_where_it_is_made!(
                        ServiceBuilder::new().layer($layer).service(BoxService::new(adds_one!()))
                    );
                }
            )*
        }
    };
}

macro_rules! answers {
    ($service:expr) => {
        let service = $service;
        let sent = service.clone();
        let answer = tokio::spawn(async move { sent.oneshot(7).await }).await.unwrap();
        assert_eq!(answer.unwrap(), 8);
        let handler = move || {
            let service = service.clone();
            async move { text(service.oneshot(41).await) }
        };
        assert_eq!(body_of(Router::new().route("/", get(handler))).await, "42");
    };
}

/// For services that a handler cannot share, because they are not `Sync`.
macro_rules! answers_where_it_is_made {
    ($service:expr) => {
        let service = $service;
        let answer = tokio::spawn(async move { service.oneshot(7).await }).await.unwrap();
        assert_eq!(answer.unwrap(), 8);
        let handler = move || {
            let service = $service;
            async move { text(service.oneshot(41).await) }
        };
        assert_eq!(body_of(Router::new().route("/", get(handler))).await, "42");
    };
}

macro_rules! adds_one {
    () => {
        tower::service_fn(async |n: u32| Ok::<u32, BoxError>(n + 1))
    };
}

fn text(answer: Result<u32, BoxError>) -> String {
    answer.map_or_else(|error| error.to_string(), |n| n.to_string())
}

async fn body_of(router: Router) -> Bytes {
    let response = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    to_bytes(response.into_body(), 100).await.unwrap()
}

rows! {
    a_retry => RetryLayer::default();
    a_retry_of_requests_copied_by_hand => RetryLayer::default().clone_request(|n: &u32| Some(*n));
    a_retry_of_any_error => RetryLayer::default().classify(AnyError);
    a_retry_that_is_leaked => RetryLayer::default().leak();
    a_limiter_with_a_queue => RateLimitLayer::default().queued();
    a_bulkhead_with_a_queue => BulkheadLayer::default().queued();
    a_fallback_service => FallbackLayer::service(adds_one!());
    a_fallback_service_in_a_box => {
        FallbackLayer::service(BoxCloneSyncService::new(adds_one!()))
    };
    a_sidecar => SidecarLayer::default();
    a_sidecar_with_a_limiter => SidecarLayer::new(Parts::new().rate_limit(Limit::new())).unwrap();
    idempotency => {
        let key = |n: &u32| Key::new(&n.to_string());
        IdempotencyLayer::new(Keys::new(), MemoryStore::<u32>::default(), key).unwrap()
    };
    idempotency_of_scoped_keys => {
        let key = |n: &u32| Key::new(&n.to_string());
        IdempotencyLayer::new(Keys::new(), MemoryStore::<u32>::default(), key)
            .unwrap()
            .fingerprint(|n: &u32| Fingerprint::of(&n.to_be_bytes()))
            .scope("prices")
    };
}

rows_without_clone! {
    a_breaker => CircuitBreakerLayer::default();
    a_breaker_with_backpressure => CircuitBreakerLayer::default().backpressure();
    a_breaker_per_key => KeyedCircuitBreakerLayer::new(Circuit::new(), 9, |n: &u32| *n).unwrap();
    a_limiter => RateLimitLayer::default();
    a_limiter_with_backpressure => RateLimitLayer::default().backpressure();
    a_limiter_per_key => KeyedRateLimitLayer::new(Limit::new(), 9, |n: &u32| *n).unwrap();
    a_bulkhead => BulkheadLayer::default();
    a_bulkhead_with_backpressure => BulkheadLayer::default().backpressure();
    a_bulkhead_per_key => KeyedBulkheadLayer::new(Wall::new(), 9, |n: &u32| *n).unwrap();
    a_time_limit => TimeLimitLayer::new(Time::new(ms(60_000))).unwrap();
    a_time_limit_that_is_leaked => TimeLimitLayer::after(ms(60_000)).leak();
    a_fallback_value => FallbackLayer::value(0u32);
    a_fallback_value_that_is_leaked => FallbackLayer::value(0u32).leak();
    a_histogram_of_durations => DurationLayer::new("in tasks");
}

/// A layer whose handlers run on separate tasks works with a boxed service where the future is made outside of the
/// block, or the box goes around the layer.
#[tokio::test]
async fn detached_idempotency() {
    let key = |n: &u32| Key::new(&n.to_string());
    let store = MemoryStore::<u32>::default();
    let layer = IdempotencyLayer::new(Keys::new(), store, key).unwrap().detached();
    answers!(ServiceBuilder::new().layer(layer.clone()).service(adds_one!()));
    let service = ServiceBuilder::new().layer(layer).service(BoxCloneSyncService::new(adds_one!()));
    assert_eq!(tokio::spawn(service.clone().oneshot(9)).await.unwrap().unwrap(), 10);
    answers!(BoxCloneSyncService::new(service));
}

#[tokio::test]
async fn idempotency_in_a_transaction() {
    let key = |n: &u32| Key::new(&n.to_string());
    let store = MemoryStore::<u32>::default();
    let layer = IdempotencyLayer::transactional(Keys::new(), store, key).unwrap();
    let inner = tower::service_fn(async |asked: WithClaim<u32, MemoryStore<u32>, u32>| {
        Ok::<u32, BoxError>(asked.request + 1)
    });
    answers!(layer.layer(inner));
    answers!(layer.layer(BoxCloneSyncService::new(inner)));
    answers_where_it_is_made!(layer.layer(BoxCloneService::new(inner)));
}

/// A gateway with one route to a backend.
macro_rules! gateway {
    ($backend:expr) => {{
        let allow = tower::service_fn(async |(): ()| Ok::<_, BoxError>(Decision::Allow));
        let route = Route::new("all").backend($backend).time_limit(ms(60_000));
        let route = route.authorize(BoxCloneSyncService::new(allow), |_: &u32| ());
        Gateway::new("edge", Clock::default(), |_: &u32| Some("all"), [route]).unwrap()
    }};
}

#[tokio::test]
async fn a_gateway() {
    answers!(gateway!(adds_one!()));
    answers!(gateway!(BoxCloneSyncService::new(adds_one!())));
    answers!(gateway!(BoxCloneService::new(adds_one!())));
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
