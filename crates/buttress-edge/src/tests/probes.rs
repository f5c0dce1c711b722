//! The circuit of a route, and clients that send slowly.

use std::time::Duration;

use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::{CircuitState, Clock};

use super::resources::SECOND;
use super::support::{Backend, Edge, Raw, get, route, status};
use crate::Config;

/// A route whose circuit has opened and is due for a probe.
async fn due(config: circuit_breaker::Config) -> (circuit_breaker::Handle, Edge, Backend) {
    let config = config.consecutive_failures(1).open_for(SECOND);
    let circuit = CircuitBreakerLayer::new(config).unwrap().handle();
    let edge = Edge::new(Config::new(), [route("all", &["b"]).circuit_breaker(circuit.clone())]);
    let mut backend = edge.network.listen("b");
    let mut client = edge.open();
    client.write(get("/")).await;
    answer(&mut backend, "500 Internal Server Error").await;
    assert_eq!(status(&client.answer().await.0), 500);
    assert_eq!(circuit.state(), CircuitState::Open);
    Clock::default().sleep(SECOND).await;
    (circuit, edge, backend)
}

async fn answer(backend: &mut Backend, status: &str) -> Raw {
    let (mut connection, _) = backend.accept_request().await;
    connection.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
    connection
}

/// Begins an upload of three bytes.
async fn upload(edge: &Edge) -> Raw {
    let mut client = edge.open();
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na").await;
    client
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_a_slow_upload_does_not_hold_the_probe_of_a_circuit() {
    let (circuit, edge, mut backend) = due(circuit_breaker::Config::new()).await;
    let mut slow = upload(&edge).await;
    let mut connection = backend.accept().await;
    connection.read_until("\r\n\r\na").await;
    assert_eq!(circuit.state(), CircuitState::HalfOpen);
    // The probe has its place for a second.
    assert_eq!(status(&edge.open().exchange(get("/")).await.0), 503);
    Clock::default().sleep(SECOND + Duration::from_millis(1)).await;
    let mut quick = edge.open();
    quick.write(get("/")).await;
    answer(&mut backend, "200 OK").await;
    assert_eq!(status(&quick.answer().await.0), 200);
    assert_eq!(circuit.state(), CircuitState::Closed);
    slow.write("bc").await;
    connection.read_until("bc").await;
    connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(status(&slow.answer().await.0), 200);
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_slow_uploads_alone_close_a_circuit_and_open_it_again() {
    for (line, expected) in
        [("200 OK", CircuitState::Closed), ("500 Internal Server Error", CircuitState::Open)]
    {
        let (circuit, edge, mut backend) = due(circuit_breaker::Config::new()).await;
        let mut first = upload(&edge).await;
        let mut connection = backend.accept().await;
        connection.read_until("\r\n\r\na").await;
        Clock::default().sleep(SECOND * 2).await;
        // Another one has the place by now.
        let _second = upload(&edge).await;
        let _connection = backend.accept().await;
        assert_eq!(status(&edge.open().exchange(get("/")).await.0), 503);
        first.write("bc").await;
        connection.read_until("bc").await;
        connection.write(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n")).await;
        first.answer().await;
        assert_eq!(circuit.state(), expected, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_a_backend_that_does_not_answer_holds_its_probe() {
    let (circuit, edge, mut backend) = due(circuit_breaker::Config::new()).await;
    let mut client = upload(&edge).await;
    client.write("bc").await;
    let mut connection = backend.accept().await;
    connection.read_until("abc").await;
    Clock::default().sleep(SECOND * 5).await;
    assert_eq!(status(&edge.open().exchange(get("/")).await.0), 503);
    assert_eq!(status(&client.answer().await.0), 504);
    assert_eq!(circuit.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_slow_calls_are_timed_from_the_end_of_the_upload() {
    // Of the client, and of the backend.
    for (client_takes, backend_takes, is_slow) in [(30, 0, 0), (30, 4, 0), (0, 5, 1), (30, 5, 1)] {
        let config = circuit_breaker::Config::new().slow_calls(SECOND * 5, 1.0);
        let circuit = CircuitBreakerLayer::new(config).unwrap().handle();
        let route = route("all", &["b"]).circuit_breaker(circuit.clone());
        let edge = Edge::new(Config::new(), [route]);
        let mut backend = edge.network.listen("b");
        let mut client = upload(&edge).await;
        let mut connection = backend.accept().await;
        connection.read_until("\r\n\r\na").await;
        Clock::default().sleep(SECOND * client_takes).await;
        client.write("bc").await;
        connection.read_until("bc").await;
        Clock::default().sleep(SECOND * backend_takes).await;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(status(&client.answer().await.0), 200);
        let stats = circuit.stats();
        assert_eq!((stats.window_calls, stats.window_slow), (1, is_slow), "{client_takes} s");
    }
}
