use std::convert::Infallible;

use buttress::bulkhead::{self, KeyedBulkheadLayer};
use buttress::circuit_breaker::{self, KeyedCircuitBreakerLayer};
use buttress::rate_limit::{self, KeyedRateLimitLayer};
use http::{HeaderName, Response, StatusCode};
use tower::{ServiceBuilder, ServiceExt};

use super::*;
use crate::HttpLayerExt;

#[tokio::test(start_paused = true)]
async fn a_limit_per_client_is_not_passed_by_another_name() {
    let keys = AddressKeys::new().trust_networks(["10.0.0.0/8"]).unwrap();
    let config = rate_limit::Config::new().max_tokens(1);
    let limiter = KeyedRateLimitLayer::new(config, 100, keys.key()).unwrap();
    let handle = limiter.handle();
    let route = ServiceBuilder::new()
        .layer(limiter.http())
        .service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let status = async |request| route.clone().oneshot(request).await.unwrap().status();
    assert_eq!(status(request("10.0.0.1", &["203.0.113.7"])).await, StatusCode::OK);
    for spoofed in SPOOFED {
        let list = format!("{spoofed}, 203.0.113.7");
        assert_eq!(
            status(request("10.0.0.1", &[&list])).await,
            StatusCode::TOO_MANY_REQUESTS,
            "{spoofed}"
        );
    }
    assert_eq!(status(request("10.0.0.1", &["203.0.113.8"])).await, StatusCode::OK);
    assert_eq!(handle.available(&key("203.0.113.7")), Some(0));
    assert_eq!(handle.stats().keys, 2);
}

#[tokio::test(start_paused = true)]
async fn the_other_keyed_layers_take_the_same_keys() {
    let tenant = || HeaderKeys::new(HeaderName::from_static("x-tenant"));
    let bulkhead =
        KeyedBulkheadLayer::new(bulkhead::Config::new().max_concurrent(1), 100, tenant().key())
            .unwrap();
    let circuit = KeyedCircuitBreakerLayer::new(
        circuit_breaker::Config::new().consecutive_failures(1),
        100,
        tenant().key(),
    )
    .unwrap();
    let (permits, circuits) = (bulkhead.handle(), circuit.handle());
    let route = ServiceBuilder::new()
        .layer(circuit.http())
        .layer(bulkhead.http())
        .service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let from = |tenant: &str| {
        let mut request = Request::new(());
        request.headers_mut().insert("x-tenant", tenant.parse().unwrap());
        route.clone().oneshot(request)
    };
    let _held = permits.try_acquire(&HeaderKey::from("a")).unwrap();
    assert_eq!(from("a").await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(from("b").await.unwrap().status(), StatusCode::OK);
    assert_eq!(circuits.stats().keys, 2);
}
