use std::convert::Infallible;
use std::time::Duration;

use buttress::{ErrorKind, bulkhead, circuit_breaker, rate_limit, retry, sidecar, time_limit};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::*;
use crate::Refusal;

type Body = Full<Bytes>;

fn answer(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}

async fn call<S>(service: &mut S) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let request = Request::new(Body::default());
    service.ready().await.unwrap().call(request).await.unwrap()
}

fn refusal(response: &Response<Body>) -> Option<ErrorKind> {
    Refusal::of(response).map(|refusal| refusal.error().kind())
}

#[tokio::test(start_paused = true)]
async fn every_mode_of_every_layer_fits_a_service_that_cannot_fail() {
    fn check<L>(layer: &L)
    where
        L: Layer<tower::util::BoxCloneService<Request<Body>, Response<Body>, Infallible>>,
        L::Service: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let inner = service_fn(async |_: Request<Body>| Ok(answer(StatusCode::OK)));
        let _ = layer.layer(tower::util::BoxCloneService::new(inner));
    }
    let cost = |_: &Request<Body>| 1;
    let limit = |_: &Request<Body>| None;
    let time = || TimeLimitLayer::new(time_limit::Config::new(Duration::from_secs(1))).unwrap();
    check(&BulkheadLayer::default().http());
    check(&BulkheadLayer::default().queued().http());
    check(&BulkheadLayer::default().backpressure().http());
    check(&RateLimitLayer::default().http());
    check(&RateLimitLayer::default().cost(cost).http());
    check(&RateLimitLayer::default().cost(cost).queued().http());
    check(&RateLimitLayer::default().backpressure().http());
    check(&CircuitBreakerLayer::default().http());
    check(&CircuitBreakerLayer::default().backpressure().http());
    check(&time().http());
    check(&time().per_request(limit).http());
    check(&RetryLayer::default().http());
    check(&SidecarLayer::default().http());
    let key = |_: &Request<Body>| 0_u8;
    check(&KeyedBulkheadLayer::new(bulkhead::Config::new(), 9, key).unwrap().http());
    check(&KeyedRateLimitLayer::new(rate_limit::Config::new(), 9, key).unwrap().http());
    let keyed = KeyedRateLimitLayer::new(rate_limit::Config::new(), 9, key).unwrap();
    check(&keyed.cost(cost).http());
    let keyed = KeyedCircuitBreakerLayer::new(circuit_breaker::Config::new(), 9, key).unwrap();
    check(&keyed.http());
    check(&FallbackLayer::value(answer(StatusCode::OK)).http());
    check(&FallbackLayer::from_result(|failed| failed).http());
    let spare = service_fn(async |_: Request<Body>| Err(BoxError::from("down")));
    check(&FallbackLayer::service(spare).http());
    let merge = |failed: Result<_, _>, _: BoxError| failed;
    check(&FallbackLayer::service(spare).on_both_failed(merge).http());
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_by_status_and_says_when_to_come_back() {
    let config = circuit_breaker::Config::new()
        .name("shop")
        .consecutive_failures(2)
        .open_for(Duration::from_millis(2500));
    let breaker = CircuitBreakerLayer::new(config).unwrap();
    let mut route = breaker.http().layer(service_fn(async |_: Request<Body>| {
        Ok::<_, Infallible>(answer(StatusCode::INTERNAL_SERVER_ERROR))
    }));
    for _ in 0..2 {
        assert_eq!(call(&mut route).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
    let refused = call(&mut route).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "3");
    assert_eq!(refusal(&refused), Some(ErrorKind::CircuitOpen));
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains(r#""kind":"circuit-open","retry_after":3"#));

    // A client that waits as `Retry-After` says becomes a probe.
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(refusal(&call(&mut route).await), None);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_further_out_ignores_a_full_bulkhead_and_counts_a_timeout() {
    let breaker = CircuitBreakerLayer::new(circuit_breaker::Config::new().consecutive_failures(1));
    let breaker = breaker.unwrap();
    let bulkhead = BulkheadLayer::default();
    let limit = time_limit::Config::new(Duration::from_millis(100));
    let mut route = ServiceBuilder::new()
        .layer(breaker.clone().http())
        .layer(bulkhead.clone().http())
        .layer(TimeLimitLayer::new(limit).unwrap().http())
        .service_fn(async |_: Request<Body>| {
            std::future::pending::<()>().await;
            Ok::<_, Infallible>(answer(StatusCode::OK))
        });
    let busy: Vec<_> = (0..10).map(|_| bulkhead.handle().try_acquire().unwrap()).collect();
    assert_eq!(refusal(&call(&mut route).await), Some(ErrorKind::BulkheadFull));
    assert_eq!(refusal(&call(&mut route).await), Some(ErrorKind::BulkheadFull));
    drop(busy);
    assert_eq!(refusal(&call(&mut route).await), Some(ErrorKind::TimedOut));
    assert_eq!(refusal(&call(&mut route).await), Some(ErrorKind::CircuitOpen));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answers_for_an_open_circuit_and_a_sick_service_only() {
    let breaker = CircuitBreakerLayer::default();
    let status = std::sync::Mutex::new(StatusCode::OK);
    let mut route = ServiceBuilder::new()
        .layer(FallbackLayer::value(answer(StatusCode::IM_A_TEAPOT)).http())
        .layer(breaker.clone().http())
        .service_fn(async |_: Request<Body>| {
            let status = *status.lock().unwrap();
            Ok::<_, Infallible>(answer(status))
        });
    for (inner, outer) in [(200, 200), (404, 404), (501, 501), (500, 418), (503, 418)] {
        *status.lock().unwrap() = StatusCode::from_u16(inner).unwrap();
        assert_eq!(call(&mut route).await.status(), outer, "{inner}");
    }
    breaker.handle().force_open();
    *status.lock().unwrap() = StatusCode::OK;
    assert_eq!(call(&mut route).await.status(), StatusCode::IM_A_TEAPOT);
}

#[tokio::test(start_paused = true)]
async fn a_spare_service_answers_for_a_sick_one() {
    let spare = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(answer(StatusCode::OK)));
    let mut route =
        FallbackLayer::service(spare).http().layer(service_fn(async |_: Request<Body>| {
            Ok::<_, Infallible>(answer(StatusCode::BAD_GATEWAY))
        }));
    assert_eq!(call(&mut route).await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_function_of_the_result_sees_what_it_answers_for() {
    let breaker = CircuitBreakerLayer::default();
    let explain = |failed: Result<Response<Body>, Infallible>| {
        failed.map(|mut response| {
            let said =
                Refusal::of(&response).map_or("sick", |refusal| refusal.error().kind().as_str());
            *response.body_mut() = Body::from(said.to_owned());
            response
        })
    };
    let mut route = ServiceBuilder::new()
        .layer(FallbackLayer::from_result(explain).http())
        .layer(breaker.clone().http())
        .service_fn(async |_: Request<Body>| Ok::<_, Infallible>(answer(StatusCode::BAD_GATEWAY)));
    for (said, status) in [("sick", 502), ("circuit-open", 503)] {
        let response = call(&mut route).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), said);
        breaker.handle().force_open();
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_by_the_code_of_a_grpc_call() {
    let config = circuit_breaker::Config::new().consecutive_failures(2);
    let breaker = CircuitBreakerLayer::new(config).unwrap();
    let code = std::sync::Mutex::new(0_u16);
    let mut route = breaker.http().layer(service_fn(async |_: Request<Body>| {
        let mut ended = answer(StatusCode::OK);
        ended.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        ended.headers_mut().insert("grpc-status", (*code.lock().unwrap()).into());
        Ok::<_, Infallible>(ended)
    }));
    // The 8 comes from a healthy service and ends the run of failures.
    for next in [14, 8, 14, 13] {
        *code.lock().unwrap() = next;
        assert_eq!(refusal(&call(&mut route).await), None, "{next}");
    }
    assert_eq!(refusal(&call(&mut route).await), Some(ErrorKind::CircuitOpen));
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_as_long_as_the_service_asks() {
    let start = buttress::Clock::default().now();
    let backoff = retry::Backoff::fixed(Duration::from_millis(10));
    let config = retry::Config::new().attempts(2).backoff(backoff);
    let mut client = RetryLayer::new(config).unwrap().http().layer(service_fn(
        async |request: Request<Body>| {
            if request.extensions().get() == Some(&crate::Attempt(2)) {
                return Ok::<_, Infallible>(answer(StatusCode::OK));
            }
            let mut busy = answer(StatusCode::TOO_MANY_REQUESTS);
            busy.headers_mut().insert("retry-after", "7".parse().unwrap());
            Ok(busy)
        },
    ));
    assert_eq!(call(&mut client).await.status(), StatusCode::OK);
    assert_eq!(buttress::Clock::default().now() - start, Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_ask_an_open_circuit_again() {
    let breaker = CircuitBreakerLayer::default();
    breaker.handle().force_open();
    let retry = RetryLayer::default();
    let mut client = ServiceBuilder::new()
        .layer(retry.clone().http())
        .layer(breaker.http())
        .service_fn(async |_: Request<Body>| Ok::<_, Infallible>(answer(StatusCode::OK)));
    assert_eq!(refusal(&call(&mut client).await), Some(ErrorKind::CircuitOpen));
    assert_eq!(retry.handle().stats().retries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_repeats_by_status_and_opens_by_exhausted_requests() {
    let config = circuit_breaker::Config::new().consecutive_failures(1);
    let sidecar = sidecar::Config::new().circuit_breaker(config);
    let attempts = std::sync::Mutex::new(Vec::new());
    let mut client = SidecarLayer::new(sidecar).unwrap().http().layer(service_fn(
        async |request: Request<Body>| {
            attempts.lock().unwrap().extend(request.extensions().get::<crate::Attempt>().copied());
            Ok::<_, Infallible>(answer(StatusCode::BAD_GATEWAY))
        },
    ));
    let exhausted = call(&mut client).await;
    assert_eq!((exhausted.status(), refusal(&exhausted)), (StatusCode::BAD_GATEWAY, None));
    assert_eq!(*attempts.lock().unwrap(), [1, 2, 3, 4].map(crate::Attempt));
    let refused = call(&mut client).await;
    assert_eq!(refusal(&refused), Some(ErrorKind::CircuitOpen));
    assert_eq!(refused.headers()["retry-after"], "30");
    assert_eq!(attempts.lock().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_keyed_limit_refuses_one_key_and_not_its_neighbour() {
    let config = rate_limit::Config::new().max_tokens(1).refill(1, Duration::from_secs(5));
    let key = |request: &Request<Body>| request.uri().path().to_owned();
    let limiter = KeyedRateLimitLayer::new(config, 100, key).unwrap();
    let route = limiter
        .http()
        .layer(service_fn(async |_: Request<Body>| Ok::<_, Infallible>(answer(StatusCode::OK))));
    for (path, status) in [("/a", 200), ("/a", 429), ("/b", 200), ("/b", 429)] {
        let request = Request::get(path).body(Body::default()).unwrap();
        let response = route.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let wait = response.headers().get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(wait, (status == 429).then_some("5"), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_5_9_a_client_error_ejects_no_endpoint_and_a_server_error_does() {
    use buttress::balance::{Balance, Config, Endpoints, Outliers};
    use buttress::discover::Instance;

    for (status, ejected) in [(404, 0), (429, 0), (200, 0), (500, 1), (503, 1)] {
        let status = StatusCode::from_u16(status).unwrap();
        let endpoints = Endpoints::new();
        endpoints.replace(&["a", "b"].map(Instance::at), |_| {
            service_fn(move |_: Request<Body>| {
                std::future::ready(Ok::<_, Infallible>(answer(status)))
            })
        });
        let balance = Balance::new(endpoints, Config::new().eject(Outliers::new())).unwrap();
        let handle = balance.handle();
        let mut service = balance.http();
        for _ in 0..40 {
            assert_eq!(call(&mut service).await.status(), status);
        }
        assert_eq!(handle.stats().ejected, ejected, "{status}");
    }

    // The refusal of the balancer is a response too.
    let empty = Endpoints::new();
    empty.replace(&[], |_| service_fn(async |_: Request<Body>| Ok(answer(StatusCode::OK))));
    let mut service = Balance::new(empty, Config::new()).unwrap().http();
    let refused = call(&mut service).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refusal(&refused), Some(ErrorKind::NoEndpoint));
}
