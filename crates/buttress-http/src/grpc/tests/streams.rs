//! Streams of a server, whose status comes in trailers.

use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{CircuitState, bulkhead, circuit_breaker};
use tonic::Code;
use tonic::body::Body;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceBuilder;

use super::{Shop, ask, ms, plain, serve};
use crate::grpc::GrpcLayerExt;
use crate::{BodyEnd, BodyTimeLimitLayer, HoldBody, HoldBodyLayer};

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

    // A unary call has its answer in a body too, and its refusal is not UNKNOWN.
    assert_eq!(client.check(ask("ok")).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(shop.requests(), 2);
}

/// Serves `watch` with a stream that does not end, through `limit` on the server or on the client.
async fn silent(on_server: bool) -> (tonic::Status, CircuitState) {
    let limit = TimeLimitLayer::new(time_limit::Config::new(ms(5_000)).name("secret")).unwrap();
    let idle = BodyTimeLimitLayer::idle(&limit.handle());
    let body_limit = ServiceBuilder::new().layer(idle).layer(HoldBodyLayer).into_inner();
    let breaker = circuit_breaker::Config::new().consecutive_failures(1).build().unwrap();
    let circuit = breaker.handle();
    let client = ServiceBuilder::new().layer(breaker.grpc().until(BodyEnd::new()));
    let shop = Shop::default();
    let mut stream = if on_server {
        let to_tonic = |response: http::Response<HoldBody<Body>>| response.map(Body::new);
        let server = ServiceBuilder::new().map_response(to_tonic).layer(body_limit).into_inner();
        let channel = serve(shop, server).await;
        let client = client.layer(HoldBodyLayer).service(channel);
        HealthClient::new(client).watch(ask("silent")).await.unwrap().into_inner()
    } else {
        let client = client.layer(body_limit).service(plain(&shop).await);
        HealthClient::new(client).watch(ask("silent")).await.unwrap().into_inner()
    };
    assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    (stream.message().await.unwrap_err(), circuit.state())
}

/// Regression: the status was UNKNOWN with the name of the layer on a client, and INTERNAL behind a server.
#[tokio::test(start_paused = true)]
async fn a_stream_whose_body_is_cut_ends_with_the_code_and_names_no_layer() {
    for on_server in [false, true] {
        let (status, circuit) = silent(on_server).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(status.message(), buttress::ErrorKind::TimedOut.summary());
        assert_eq!(circuit, CircuitState::Open, "a failure for the layers further out");
    }
}
