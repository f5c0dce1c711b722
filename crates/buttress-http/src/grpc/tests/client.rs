//! The refusal of each layer in front of a tonic client.

use std::convert::Infallible;

use buttress::bulkhead::{self, KeyedBulkheadLayer};
use buttress::circuit_breaker::{self, KeyedCircuitBreakerLayer};
use buttress::fallback::FallbackLayer;
use buttress::rate_limit::{self, KeyedRateLimitLayer};
use buttress::retry::{self, Backoff, RetryLayer};
use buttress::sidecar::SidecarLayer;
use buttress::time_limit::TimeLimitLayer;
use buttress::{CircuitState, ErrorKind};
use http::{Request, Response};
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::StdError;
use tonic::transport::Channel;
use tonic_health::pb::health_client::HealthClient;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};

use super::{Shop, ask, ms, plain, repeatable};
use crate::context::ContextLayer;
use crate::grpc::{DeadlineLayer, GrpcLayerExt};
use crate::{BodyEnd, HttpLayerExt, ReplayBody, ReplayLayer};

/// The code, message and pushback of a unary call and of a stream through `layer`.
async fn refused<L>(shop: &Shop, layer: L, service: &str) -> (Code, String, Option<String>)
where
    L: Layer<Channel>,
    L::Service: Service<Request<Body>, Response = Response<Body>, Error: Into<StdError>, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let mut client = HealthClient::new(layer.layer(plain(shop).await));
    let status = client.check(ask(service)).await.unwrap_err();
    if service == "ok" {
        let stream = client.watch(ask(service)).await.unwrap_err();
        assert_eq!((stream.code(), stream.message()), (status.code(), status.message()));
    }
    let pushback = status.metadata().get("grpc-retry-pushback-ms");
    let pushback = pushback.map(|value| value.to_str().unwrap().to_owned());
    (status.code(), status.message().to_owned(), pushback)
}

fn key(_: &Request<Body>) -> u8 {
    7
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_front_of_a_client_is_a_status_with_its_code() {
    let shop = Shop::default();
    let is = |kind: ErrorKind, pushback: Option<&str>| {
        let code = Code::from_i32(kind.grpc_code());
        (code, kind.summary().to_owned(), pushback.map(str::to_owned))
    };

    let full = bulkhead::Config::new().max_concurrent(1).build().unwrap();
    let _taken = full.handle().try_acquire().unwrap();
    let expected = is(ErrorKind::BulkheadFull, None);
    assert_eq!(refused(&shop, full.clone().grpc(), "ok").await, expected);

    let config = bulkhead::Config::new().max_concurrent(1).queue(1).max_wait(ms(50));
    let queued = config.build().unwrap().queued();
    let _held = queued.handle().try_acquire().unwrap();
    let expected = is(ErrorKind::QueueTimeout, None);
    assert_eq!(refused(&shop, queued.grpc(), "ok").await, expected);

    let config = bulkhead::Config::new().max_concurrent(1);
    let keyed = KeyedBulkheadLayer::new(config, 9, key).unwrap();
    let _held = keyed.handle().try_acquire(&7).unwrap();
    let expected = is(ErrorKind::BulkheadFull, None);
    assert_eq!(refused(&shop, keyed.grpc(), "ok").await, expected);

    let slow = rate_limit::Config::new().max_tokens(1).refill(2, ms(5_000));
    let limiter = slow.clone().build().unwrap();
    limiter.handle().try_acquire(1).unwrap();
    let expected = is(ErrorKind::RateLimited, Some("2500"));
    assert_eq!(refused(&shop, limiter.grpc(), "ok").await, expected);
    let keyed = KeyedRateLimitLayer::new(slow, 9, key).unwrap();
    keyed.handle().try_acquire(&7, 1).unwrap();
    assert_eq!(refused(&shop, keyed.grpc(), "ok").await, expected);

    let open = circuit_breaker::Config::new().build().unwrap();
    open.handle().force_open();
    let expected = is(ErrorKind::CircuitOpen, None);
    assert_eq!(refused(&shop, open.grpc(), "ok").await, expected);
    let keyed = KeyedCircuitBreakerLayer::new(circuit_breaker::Config::new(), 9, key).unwrap();
    keyed.handle().try_acquire(&7).unwrap().success();
    keyed.handle().get(&7).unwrap().force_open();
    assert_eq!(refused(&shop, keyed.grpc(), "ok").await, expected);
    assert_eq!(shop.requests(), 0);

    let limit = TimeLimitLayer::after(ms(30));
    let expected = is(ErrorKind::TimedOut, None);
    assert_eq!(refused(&shop, limit.grpc(), "stuck").await, expected);
    let deadline = DeadlineLayer::new().at_most(ms(30));
    let expected = is(ErrorKind::DeadlineExceeded, None);
    assert_eq!(refused(&shop, deadline, "stuck").await, expected);
    assert_eq!(shop.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_around_a_client_repeats_and_opens_by_code() {
    let shop = Shop::default();
    let stack = ServiceBuilder::new()
        .layer(ReplayLayer::default())
        .layer(SidecarLayer::default().grpc())
        .map_request(|request: Request<ReplayBody<Body>>| request.map(Body::new))
        .service(plain(&shop).await);
    let mut client = HealthClient::new(stack);
    assert_eq!(client.check(repeatable("first: 14")).await.unwrap().get_ref().status, 1);
    assert_eq!(shop.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_for_a_refusal_and_for_a_failed_code() {
    let answer = FallbackLayer::from_result(|failed: Result<Response<Body>, _>| {
        failed.map(|_| tonic::Status::not_found("spare").into_http())
    });
    let full = bulkhead::Config::new().max_concurrent(1).build().unwrap();
    let permits = full.handle();
    let stack = ServiceBuilder::new()
        .layer(answer.grpc())
        .layer(full.grpc())
        .service(plain(&Shop::default()).await);
    let mut client = HealthClient::new(stack);
    assert_eq!(client.check(ask("14")).await.unwrap_err().message(), "spare");
    assert_eq!(client.check(ask("5")).await.unwrap_err().message(), "failed");
    let _taken = permits.try_acquire().unwrap();
    assert_eq!(client.check(ask("ok")).await.unwrap_err().message(), "spare");
}

/// From the outside in: retry, breaker, bulkhead, limit per attempt.
#[tokio::test(start_paused = true)]
async fn each_layer_knows_the_refusals_of_the_layers_further_in() {
    let shop = Shop::default();
    let retry = retry::Config::new().attempts(3).backoff(Backoff::fixed(ms(10)));
    let breaker = circuit_breaker::Config::new().consecutive_failures(2).build().unwrap();
    let circuit = breaker.handle();
    let bulkhead = bulkhead::Config::new().max_concurrent(1).build().unwrap();
    let permits = bulkhead.handle();
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new())
        .layer(ReplayLayer::default())
        .layer(retry.build().unwrap().grpc())
        .layer(breaker.grpc())
        .layer(bulkhead.grpc())
        .layer(ContextLayer::client())
        .layer(TimeLimitLayer::after(ms(100)).grpc())
        .map_request(|request: Request<ReplayBody<Body>>| request.map(Body::new))
        .service(plain(&shop).await);
    let mut client = HealthClient::new(stack);

    // A full bulkhead is asked again, and the breaker does not count it.
    let taken = permits.try_acquire().unwrap();
    let full = client.check(repeatable("ok")).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert_eq!((permits.stats().refused, circuit.state()), (3, CircuitState::Closed));
    drop(taken);
    // A limit per attempt is a failure: two of them open the circuit, and the third attempt meets it.
    let late = client.check(repeatable("stuck")).await.unwrap_err();
    assert_eq!((late.code(), shop.requests()), (Code::Unavailable, 2));
    assert_eq!(circuit.state(), CircuitState::Open);
    // An open circuit is not asked again.
    let open = client.check(repeatable("ok")).await.unwrap_err();
    assert_eq!((open.code(), shop.requests()), (Code::Unavailable, 2));
    assert!(open.metadata().contains_key("grpc-retry-pushback-ms"));
}

#[tokio::test(start_paused = true)]
async fn a_stack_works_in_a_task_with_and_without_a_boxed_error() {
    let shop = Shop::default();
    let channel = plain(&shop).await;
    let stack = |channel: Channel| {
        ServiceBuilder::new()
            .layer(DeadlineLayer::new().at_most(ms(1_000)))
            .layer(ReplayLayer::default())
            .layer(RetryLayer::default().grpc())
            .layer(circuit_breaker::CircuitBreakerLayer::default().grpc())
            .layer(rate_limit::RateLimitLayer::default().grpc())
            .layer(bulkhead::BulkheadLayer::default().grpc())
            .layer(ContextLayer::client())
            .layer(TimeLimitLayer::after(ms(100)).grpc())
            .map_request(|request: Request<ReplayBody<Body>>| request.map(Body::new))
            .service(channel)
    };
    let mut client = HealthClient::new(stack(channel));
    let task = tokio::spawn(async move { client.check(ask("ok")).await });
    assert_eq!(task.await.unwrap().unwrap().get_ref().status, 1);

    let boxed = ServiceBuilder::new()
        .layer(DeadlineLayer::new().at_most(ms(1_000)))
        .layer(RetryLayer::default().grpc())
        .layer(circuit_breaker::CircuitBreakerLayer::default().grpc())
        .layer(rate_limit::RateLimitLayer::default().grpc())
        .layer(bulkhead::BulkheadLayer::default().grpc())
        .layer(TimeLimitLayer::after(ms(100)).grpc())
        .service_fn(async |_: Request<String>| Err::<Response<String>, _>(BoxError::from("reset")));
    let task = tokio::spawn(async move { boxed.oneshot(Request::default()).await });
    assert_eq!(task.await.unwrap().unwrap_err().to_string(), "reset");
}

#[test]
fn every_mode_of_every_layer_has_grpc() {
    fn check<L>(layer: &L)
    where
        L: Layer<tower::util::BoxCloneService<Request<String>, Response<String>, Infallible>>,
        L::Service: Service<Request<String>, Response = Response<String>, Error = Infallible>,
    {
        let inner = tower::service_fn(async |_: Request<String>| Ok(Response::default()));
        let _ = layer.layer(tower::util::BoxCloneService::new(inner));
    }
    let cost = |_: &Request<String>| 1;
    check(&bulkhead::BulkheadLayer::default().grpc());
    check(&bulkhead::BulkheadLayer::default().queued().grpc());
    check(&bulkhead::BulkheadLayer::default().backpressure().grpc());
    check(&rate_limit::RateLimitLayer::default().grpc());
    check(&rate_limit::RateLimitLayer::default().cost(cost).queued().grpc());
    check(&rate_limit::RateLimitLayer::default().backpressure().grpc());
    check(&circuit_breaker::CircuitBreakerLayer::default().grpc());
    check(&circuit_breaker::CircuitBreakerLayer::default().backpressure().grpc());
    check(&TimeLimitLayer::after(ms(1)).per_request(|_: &Request<String>| None).grpc());
    check(&RetryLayer::default().grpc());
    check(&SidecarLayer::default().grpc());
    check(&FallbackLayer::value(Response::<String>::default()).grpc());
    check(&FallbackLayer::from_result(|failed| failed).grpc());
    check(&DeadlineLayer::new());
    check(&crate::grpc::ByContentTypeLayer);
}

/// Regression: `.until(..).grpc()` did not compile.
#[test]
fn the_end_of_a_call_may_be_chosen_before_or_after_grpc() {
    fn same<T>(_before: T, _after: T) {}
    let until = BodyEnd::new;
    let breaker = circuit_breaker::CircuitBreakerLayer::default;
    same(breaker().until(until()).grpc(), breaker().grpc().until(until()));
    same(breaker().leak().until(until()).http(), breaker().leak().http().until(until()));
    let bulkhead = || bulkhead::BulkheadLayer::default().queued();
    same(bulkhead().until(until()).grpc(), bulkhead().grpc().until(until()));
    let config = circuit_breaker::Config::new;
    let keyed = || KeyedCircuitBreakerLayer::<u8, _>::new(config(), 9, key).unwrap();
    same(keyed().until(until()).grpc(), keyed().grpc().until(until()));
}
