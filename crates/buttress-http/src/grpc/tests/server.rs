//! Refusals of layers around a tonic service, as a client sees them.

use buttress::circuit_breaker;
use buttress::rate_limit;
use buttress::time_limit::TimeLimitLayer;
use buttress::{CircuitState, ErrorKind, bulkhead};
use tonic::{Code, Status};
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceBuilder;

use super::{Shop, ask, ms, serve};
use crate::context::{ContextLayer, Trust};
use crate::grpc::GrpcLayerExt;

fn is(status: &Status, kind: ErrorKind) {
    let code = Code::from_i32(kind.grpc_code());
    assert_eq!((status.code(), status.message()), (code, kind.summary()));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_each_layer_around_a_service_reaches_the_client_as_its_code() {
    let shop = Shop::default();
    let limiter = rate_limit::Config::new().max_tokens(7).refill(2, ms(5_000)).build().unwrap();
    let breaker = circuit_breaker::Config::new().consecutive_failures(2).build().unwrap();
    let circuit = breaker.handle();
    let bulkhead = bulkhead::Config::new().max_concurrent(1).build().unwrap();
    let permits = bulkhead.handle();
    let layers = ServiceBuilder::new()
        .layer(ContextLayer::server(Trust::All).grpc())
        .layer(limiter.clone().grpc())
        .layer(breaker.grpc())
        .layer(bulkhead.grpc())
        .layer(TimeLimitLayer::after(ms(100)).grpc())
        .into_inner();
    let mut client = HealthClient::new(serve(shop.clone(), layers).await);

    assert_eq!(client.check(ask("ok")).await.unwrap().get_ref().status, 1);
    let mut stream = client.watch(ask("ok")).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    assert_eq!(shop.requests(), 2);

    let taken = permits.try_acquire().unwrap();
    is(&client.check(ask("ok")).await.unwrap_err(), ErrorKind::BulkheadFull);
    is(&client.watch(ask("ok")).await.unwrap_err(), ErrorKind::BulkheadFull);
    drop(taken);

    is(&client.check(ask("stuck")).await.unwrap_err(), ErrorKind::TimedOut);
    is(&client.check(ask("stuck")).await.unwrap_err(), ErrorKind::TimedOut);
    assert_eq!(circuit.state(), CircuitState::Open);
    let open = client.check(ask("ok")).await.unwrap_err();
    is(&open, ErrorKind::CircuitOpen);
    assert!(open.metadata().contains_key("grpc-retry-pushback-ms"));

    while limiter.handle().try_acquire(1).is_ok() {}
    let limited = client.watch(ask("ok")).await.unwrap_err();
    is(&limited, ErrorKind::RateLimited);
    let pushback = limited.metadata().get("grpc-retry-pushback-ms").unwrap();
    let pushback: u64 = pushback.to_str().unwrap().parse().unwrap();
    assert!((1..=2_500).contains(&pushback), "{pushback}");
    assert!(limited.metadata().contains_key("retry-after"));
    assert_eq!(shop.requests(), 4);
}
