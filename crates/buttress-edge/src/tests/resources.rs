//! What a client or a backend that does not keep up can hold of the proxy.

use std::time::Duration;

use buttress::balance::{self, Outliers};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::discover::Instance;
use buttress::{CircuitState, Clock};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use super::failures::accept_http2;
use super::log;
use super::serve::{HEADERS, PREFACE, frame};
use super::support::{Backend, Edge, Raw, field, get, route, status};
use crate::serve::connection::Stage;
use crate::{Config, Route, Upstream};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Writes an endless answer until the peer reads no more, and returns how many bytes went.
pub(super) async fn fill(mut connection: Raw) -> (usize, DuplexStream) {
    connection.read_head().await;
    connection.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    let (mut io, mut sent, clock) = (connection.into_io(), 0, Clock::default());
    loop {
        tokio::select! {
            written = io.write(&[b'x'; 4096]) => sent += written.unwrap(),
            () = clock.sleep(SECOND) => return (sent, io),
        }
    }
}

/// Asks for the greatest window that there is.
fn greedy() -> Vec<u8> {
    let settings = frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    [PREFACE, &settings, &frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes())].concat()
}

#[tokio::test(start_paused = true)]
async fn edge_2_49_a_client_that_does_not_read_fills_small_buffers() {
    // Two connections in memory hold 64 KiB each.
    const PIPES: usize = 128 * 1024;
    let (edge, mut backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    for request in [get("/").into_bytes(), [greedy(), frame(1, 5, 1, HEADERS)].concat()] {
        let (mut client, _task) = edge.connect(&stages);
        client.write(&request).await;
        let (sent, _io) = fill(backend.accept().await).await;
        assert!(sent < PIPES + 256 * 1024, "{sent} bytes");
    }
}

fn http2_edge() -> (Edge, Backend) {
    let upstream = Upstream::fixed(["http://b"]).unwrap().http2();
    let edge = Edge::new(Config::new(), [Route::new("all").to(upstream).public()]);
    let backend = edge.network.listen("b");
    (edge, backend)
}

/// Serves a connection of HTTP/2. `/big` has 4 MiB, and `/never` has no answer.
fn serve_http2(connection: Raw) {
    let service = service_fn(async |request: Request<Incoming>| {
        if request.uri().path() == "/never" {
            std::future::pending::<()>().await;
        }
        let length = if request.uri().path() == "/big" { 4 << 20 } else { 2 };
        let body = Full::new(Bytes::from(vec![b'x'; length]));
        Ok::<_, std::convert::Infallible>(Response::new(body))
    });
    let io = TokioIo::new(connection.into_io());
    tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
}

#[tokio::test(start_paused = true)]
async fn slow_readers_do_not_stop_the_other_streams_of_a_backend_of_http2() {
    let (edge, mut backend) = http2_edge();
    let (_stage, stages) = watch::channel(Stage::Running);
    let mut slow = Vec::new();
    for _ in 0..8 {
        let (mut client, task) = edge.connect(&stages);
        client.write(get("/big")).await;
        if slow.is_empty() {
            serve_http2(backend.accept().await);
        }
        slow.push((client, task));
        Clock::default().sleep(SECOND).await;
    }
    let (mut client, _task) = edge.connect(&stages);
    let (head, body) = client.exchange(get("/small")).await;
    assert_eq!((status(&head), body.as_str()), (200, "xx"));
    assert_eq!(edge.network.dialled().len(), 1);
}

/// Returns a client, and the connection of HTTP/2 to the backend that has answered its request with 204.
async fn answered_http2(edge: &Edge, backend: &mut Backend) -> (Raw, Raw) {
    let mut client = edge.open();
    client.write(get("/")).await;
    let mut connection = accept_http2(backend).await;
    connection.write(frame(1, 5, 1, &[0x89])).await;
    assert_eq!(status(&client.answer().await.0), 204);
    (client, connection)
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_http2_that_went_silent_gets_no_second_request() {
    let (edge, mut backend) = http2_edge();
    let (mut client, silent) = answered_http2(&edge, &mut backend).await;
    assert_eq!(status(&client.exchange(get("/")).await.0), 504);
    client.write(get("/")).await;
    serve_http2(backend.accept().await);
    assert_eq!(status(&client.answer().await.0), 200);
    assert_eq!(edge.network.dialled().len(), 2);
    drop(silent);
}

/// Regression: only a limit of the proxy showed that a connection is silent, and clients may leave before each limit.
#[tokio::test(start_paused = true)]
async fn a_silent_connection_of_http2_gets_no_second_request_also_if_the_clients_leave() {
    let (edge, mut backend) = http2_edge();
    let (mut client, silent) = answered_http2(&edge, &mut backend).await;
    let mut leaving = edge.open();
    leaving.write(get("/")).await;
    Clock::default().sleep(2 * SECOND).await;
    drop(leaving);
    while edge.proxy.stats()[0].1.in_flight > 0 {
        tokio::task::yield_now().await;
    }
    client.write(get("/")).await;
    serve_http2(backend.accept().await);
    assert_eq!(status(&client.answer().await.0), 200);
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_streams_of_a_connection_of_http2_open_another_one() {
    let (edge, mut backend) = http2_edge();
    let mut waiting = Vec::new();
    for n in 0..100 {
        let mut client = edge.open();
        client.write(get("/never")).await;
        waiting.push(client);
        if n == 0 {
            serve_http2(backend.accept().await);
        }
    }
    let mut others = Vec::new();
    for n in 0..2 {
        let mut client = edge.open();
        client.write(get("/small")).await;
        if n == 0 {
            serve_http2(backend.accept().await);
        }
        assert_eq!(status(&client.answer().await.0), 200);
        others.push(client);
    }
    assert_eq!(edge.network.dialled().len(), 2);
    assert_eq!(edge.proxy.stats()[0].1.in_flight, 100);
    // A stream that is free again is taken before another connection.
    drop(waiting.pop());
    while edge.proxy.stats()[0].1.in_flight == 100 {
        tokio::task::yield_now().await;
    }
    let mut last = edge.open();
    for _ in 0..2 {
        assert_eq!(status(&last.exchange(get("/small")).await.0), 200);
    }
    assert_eq!(edge.network.dialled().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lack_of_descriptors_is_no_failure_of_the_backend() {
    let (circuit, _) = circuit();
    let turns = balance::Config::new().eject(Outliers::new());
    let instances = [Instance::at("exhausted")];
    let upstream = Upstream::balanced(instances, turns).unwrap();
    let route = Route::new("all").to(upstream.clone()).public().circuit_breaker(circuit.clone());
    let edge = Edge::new(Config::new(), [route]);
    let log = log::begin();
    for n in 1..=10 {
        let (head, body) = edge.open().exchange(get("/")).await;
        assert_eq!((status(&head), field(&head, "retry-after")), (503, Some("1")));
        assert!(body.contains(r#""kind":"at-capacity""#), "{body}");
        let stats = edge.proxy.stats()[0].1;
        assert_eq!((stats.refused.at_capacity, stats.failed), (n, 0));
    }
    assert_eq!(circuit.state(), CircuitState::Closed);
    assert_eq!(upstream.handle().stats().failures, 0);
    let stats = upstream.stats()[0].1;
    assert_eq!((stats.refused, stats.failed), (10, 0));
    assert_eq!(log.matches("no file descriptor is free"), 1);
}

fn circuit() -> (circuit_breaker::Handle, Route) {
    let config = circuit_breaker::Config::new().consecutive_failures(1);
    let circuit = CircuitBreakerLayer::new(config).unwrap().handle();
    (circuit.clone(), route("all", &["b"]).circuit_breaker(circuit))
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_a_client_that_uses_up_the_time_of_its_request_opens_no_circuit() {
    let (circuit, route) = circuit();
    let edge = Edge::new(Config::new(), [route.time_limit(3 * SECOND)]);
    let mut backend = edge.network.listen("b");
    // The second one leaves the backend two seconds of three.
    for (late, expected) in [(SECOND * 11 / 4, CircuitState::Closed), (SECOND, CircuitState::Open)]
    {
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na";
        let (mut client, _connection) = edge.send(post, &mut backend).await;
        Clock::default().sleep(late).await;
        client.write("b").await;
        assert_eq!(status(&client.answer().await.0), 504);
        assert_eq!(circuit.state(), expected, "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_a_backend_that_closes_during_an_upload_opens_no_circuit() {
    let (circuit, route) = circuit();
    let edge = Edge::new(Config::new(), [route]);
    let mut backend = edge.network.listen("b");
    // Half of the body, and the whole.
    for (body, expected) in [("a", CircuitState::Closed), ("ab", CircuitState::Open)] {
        let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{body}");
        let (mut client, mut connection) = edge.send(post, &mut backend).await;
        connection.read_until(body).await;
        drop(connection);
        assert_eq!(status(&client.answer().await.0), 502);
        assert_eq!(circuit.state(), expected, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_47_a_connection_of_h2_without_a_whole_head_is_closed() {
    let (edge, _backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    let settings = frame(4, 0, 0, &[]);
    let headers = frame(1, 5, 1, HEADERS);
    for rest in [&[][..], &settings, &frame(1, 1, 1, HEADERS), &headers[..12]] {
        let start = Clock::default().now();
        let (mut client, task) = edge.connect(&stages);
        client.write([PREFACE, rest].concat()).await;
        client.bytes_to_end().await;
        assert!(Clock::default().now() - start <= 20 * SECOND, "{rest:?}");
        assert!(task.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_47_a_request_of_h2_keeps_its_connection_and_an_unused_one_gets_goaway() {
    let (edge, mut backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    let (client, task) = edge.connect(&stages);
    let io = TokioIo::new(client.into_io());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://a/").body(Full::<Bytes>::default()).unwrap();
    let asked = tokio::spawn(sender.send_request(request));
    let (mut raw, _) = backend.accept_request().await;
    raw.write("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n").await;
    let body = asked.await.unwrap().unwrap().into_body();
    for _ in 0..30 {
        Clock::default().sleep(SECOND).await;
        raw.write("x").await;
    }
    assert_eq!(body.collect().await.unwrap().to_bytes().len(), 30);
    let start = Clock::default().now();
    connection.await.unwrap().unwrap();
    assert_eq!(Clock::default().now() - start, 10 * SECOND);
    assert!(task.await.unwrap());
}
