//! Streams of a server, whose status comes in trailers.

use buttress::{CircuitState, bulkhead, circuit_breaker};
use tonic::Code;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceBuilder;

use super::{Shop, ask, plain};
use crate::grpc::GrpcLayerExt;
use crate::{BodyEnd, HoldBodyLayer};

#[tokio::test(start_paused = true)]
async fn a_status_in_trailers_opens_a_circuit_that_lasts_until_the_end_of_the_body() {
    let shop = Shop::default();
    let breaker = circuit_breaker::Config::new().consecutive_failures(1).build().unwrap();
    let circuit = breaker.handle();
    let bulkhead = bulkhead::Config::new().max_concurrent(1).build().unwrap();
    let permits = bulkhead.handle();
    let stack = ServiceBuilder::new()
        .layer(breaker.grpc().until(BodyEnd::new()))
        .layer(bulkhead.grpc().until(BodyEnd::new()))
        .layer(HoldBodyLayer)
        .service(plain(&shop).await);
    let mut client = HealthClient::new(stack);

    let mut stream = client.watch(ask("ok")).await.unwrap().into_inner();
    // The permit is taken until the stream ends. The refusal of the bulkhead does not count in the circuit.
    assert_eq!(permits.stats().active, 1);
    assert_eq!(client.watch(ask("ok")).await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    assert_eq!(stream.message().await.unwrap(), None);
    assert_eq!((permits.stats().active, circuit.state()), (0, CircuitState::Closed));

    let mut stream = client.watch(ask("14")).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    assert_eq!(circuit.state(), CircuitState::Closed);
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(circuit.state(), CircuitState::Open);

    // A unary call has its answer in a body too, and its refusal is no UNKNOWN.
    assert_eq!(client.check(ask("ok")).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(shop.requests(), 2);
}
