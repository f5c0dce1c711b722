//! The listener: both protocols, slow heads, limits and the drain.

use std::convert::Infallible;
use std::future::{IntoFuture, ready};
use std::time::Duration;

use buttress::health::{Group, Health, Status};
use buttress::{Clock, VirtualClock};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::server::conn::http2 as http2_server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::support::{Edge, field, get, route, status};
use crate::serve::connection::Stage;
use crate::{Config, Proxy, RefusedStats, Route, RouteStats, Upstream, serve};

#[tokio::test(start_paused = true)]
async fn edge_2_47_a_slow_head_is_closed_after_ten_seconds_and_others_are_unaffected() {
    let (edge, mut backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    let clock = Clock::default();
    // One byte a second, no byte at all, and the beginning of the preface of h2.
    for text in [get("/"), String::new(), String::from("PRI * HTTP")] {
        let start = clock.now();
        let (mut slow, task) = edge.connect(&stages);
        for byte in text.bytes().take(10) {
            slow.write([byte]).await;
            if byte == b'E' {
                let (mut quick, _task) = edge.connect(&stages);
                quick.write(get("/")).await;
                let (_connection, _) = backend.serve_one().await;
                assert_eq!(status(&quick.answer().await.0), 200);
            }
            clock.sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(slow.read_to_end().await, "", "{text}");
        assert_eq!(clock.now() - start, Duration::from_secs(10), "{text}");
        assert!(task.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_48_one_port_speaks_both_protocols() {
    let (edge, mut backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    let (mut client, _task) = edge.connect(&stages);
    // A first byte that both protocols share, in pieces.
    for piece in ["P", "O", "ST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"] {
        client.write(piece).await;
    }
    let (connection, head) = backend.serve_one().await;
    assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
    assert_eq!(status(&client.answer().await.0), 200);
    drop(connection);

    let (client, _task) = edge.connect(&stages);
    let io = TokioIo::new(client.into_io());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://shop.example/a?b").body(Empty::<Bytes>::new()).unwrap();
    let (response, (_connection, head)) =
        tokio::join!(sender.send_request(request), backend.serve_one());
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "x-forwarded-host"), Some("shop.example"));
    assert_eq!(field(&head, "x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(field(&head, "via"), Some("2 buttress"));
    let response = response.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
}

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Returns a frame of h2 (RFC 9113, section 4.1).
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// GET / of the authority `a`.
pub(super) const HEADERS: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

#[tokio::test(start_paused = true)]
async fn edge_2_49_h2_allows_a_hundred_streams_and_a_head_of_16_kib() {
    let (edge, _backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    let (mut client, _task) = edge.connect(&stages);
    client.write([PREFACE, &frame(4, 0, 0, &[])].concat()).await;
    let head = client.bytes(9).await;
    assert_eq!(head[3], 4, "the first frame is not a SETTINGS");
    let payload = client.bytes(usize::from(head[2])).await;
    let value = |id: u8| {
        let setting = payload.chunks(6).find(|setting| setting[1] == id).unwrap();
        u32::from_be_bytes(setting[2..].try_into().unwrap())
    };
    assert_eq!((value(3), value(6)), (100, 16 * 1024));
}

#[tokio::test(start_paused = true)]
async fn edge_2_49_rapid_resets_and_floods_of_continuations_end_the_connection() {
    let (edge, _backend) = Edge::simple();
    let (_stage, stages) = watch::channel(Stage::Running);
    let resets = (0..2000_u32).flat_map(|n| {
        let stream = 2 * n + 1;
        [frame(1, 5, stream, HEADERS), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    });
    let field = [&[0x00, 0x01, b'x', 0x7f, 0x81, 0x01][..], &[b'a'; 256]].concat();
    let floods = (0..2000_u32).flat_map(|n| {
        let kind = if n == 0 { 1 } else { 9 };
        frame(kind, 0, 1, if n == 0 { HEADERS } else { &field })
    });
    for attack in [resets.collect::<Vec<u8>>(), floods.collect()] {
        let (client, task) = edge.connect(&stages);
        let (mut reader, mut writer) = client.split();
        let write = async {
            let start = [PREFACE, &frame(4, 0, 0, &[])].concat();
            writer.write_all(&start).await.unwrap();
            // The connection may end while the client still writes.
            drop(writer.write_all(&attack).await);
        };
        let (answer, ()) = tokio::join!(reader.bytes_to_end(), write);
        let is_goaway = |window: &[u8]| window[0] == 7 && window[1..6] == [0, 0, 0, 0, 0];
        assert!(answer.windows(6).any(is_goaway), "no GOAWAY: {answer:?}");
        assert!(task.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_43_a_drain_closes_idle_connections_and_lets_requests_finish() {
    let (edge, mut backend) = Edge::simple();
    let (stage, stages) = watch::channel(Stage::Running);
    let (mut idle, idle_task) = edge.connect(&stages);
    idle.write(get("/")).await;
    let (connection, _) = backend.serve_one().await;
    idle.answer().await;
    drop(connection);
    let (mut silent, silent_task) = edge.connect(&stages);
    let (mut busy, busy_task) = edge.connect(&stages);
    busy.write(get("/")).await;
    let (mut connection, _) = backend.accept_request().await;

    let start = Clock::default().now();
    stage.send_replace(Stage::Draining);
    assert_eq!(idle.read_to_end().await, "");
    assert_eq!(silent.read_to_end().await, "");
    assert!(idle_task.await.unwrap() && silent_task.await.unwrap());
    assert_eq!(Clock::default().now(), start);

    Clock::default().sleep(Duration::from_secs(9)).await;
    connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let (head, body) = busy.answer().await;
    assert_eq!((status(&head), &*body), (200, "ok"));
    assert_eq!(field(&head, "connection"), Some("close"));
    assert_eq!(busy.read_to_end().await, "");
    assert!(busy_task.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn edge_2_43_a_request_that_begins_during_the_drain_is_503() {
    let (edge, _backend) = Edge::simple();
    let (stage, stages) = watch::channel(Stage::Running);
    let (mut client, task) = edge.connect(&stages);
    // The beginning of a head, so that the connection is not idle.
    client.write("GET / HTTP/1.1\r\nHo").await;
    let (mut grpc, grpc_task) = edge.connect(&stages);
    grpc.write("POST / HTTP/1.1\r\nContent-Type: application/grpc\r\nHo").await;
    let (mut h2, h2_task) = edge.connect(&stages);
    h2.write([PREFACE, &frame(4, 0, 0, &[])].concat()).await;
    h2.bytes(9).await;
    tokio::task::yield_now().await;
    stage.send_replace(Stage::Draining);
    tokio::task::yield_now().await;

    let (head, body) = client.exchange("st: a\r\n\r\n").await;
    assert_eq!((status(&head), field(&head, "retry-after")), (503, Some("1")));
    assert_eq!(field(&head, "connection"), Some("close"));
    assert_eq!(field(&head, "proxy-status"), Some("buttress; error=proxy_internal_response"));
    assert!(body.contains(r#""kind":"draining""#), "{body}");
    assert_eq!(client.read_to_end().await, "");
    assert!(task.await.unwrap());

    let (head, _) = grpc.exchange("st: a\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!((status(&head), field(&head, "grpc-status")), (200, Some("14")));
    assert!(grpc_task.await.unwrap());

    // A stream that the client opened before it saw GOAWAY.
    h2.write(frame(1, 5, 1, HEADERS)).await;
    while edge.proxy.stats()[0].1.refused.draining < 3 {
        tokio::task::yield_now().await;
    }
    drop(h2);
    assert!(h2_task.await.unwrap());
    let refused = RefusedStats { draining: 3, ..RefusedStats::default() };
    let expected = RouteStats { begun: 3, refused, ..RouteStats::default() };
    assert_eq!(edge.proxy.stats()[0].1, expected);
    assert_eq!(edge.network.dialled(), [""; 0]);
}

#[tokio::test]
async fn edge_2_43_readiness_is_503_from_the_beginning_of_the_drain() {
    let (listener, backend, proxy) = on_sockets().await;
    let address = listener.local_addr().unwrap();
    let health = Health::new("edge", "1");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = serve(listener, proxy).until(async { drop(stopped.await) });
    let server = tokio::spawn(server.health(health.clone()).into_future());
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(get("/").as_bytes()).await.unwrap();
    let (mut connection, _) = backend.accept().await.unwrap();
    read_until(&mut connection, "\r\n\r\n").await;
    assert_eq!(health.group(Group::Ready), Status::Up);
    stop.send(()).unwrap();
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    // A request is still in progress.
    assert_eq!(health.group(Group::Ready), Status::Down);
    assert_eq!(health.group(Group::Live), Status::Up);
    connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    server.await.unwrap();
}

/// A proxy whose backends are real sockets.
async fn on_sockets() -> (TcpListener, TcpListener, Proxy) {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = backend.local_addr().unwrap().to_string();
    let proxy = Proxy::new(Config::new(), [route("all", &[&address])]).unwrap();
    (TcpListener::bind("127.0.0.1:0").await.unwrap(), backend, proxy)
}

async fn read_until(io: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        assert_eq!(io.read(&mut byte).await.unwrap(), 1, "ended after {text:?}");
        text.push(char::from(byte[0]));
    }
    text
}

#[tokio::test]
async fn edge_2_43_the_drain_ends_with_the_last_request_or_cuts_it_off() {
    for is_cut in [false, true] {
        let (listener, backend, proxy) = on_sockets().await;
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let virtual_clock = VirtualClock::new();
        let server = serve(listener, proxy.clone())
            .until(async { drop(stopped.await) })
            .drain(Duration::from_secs(30))
            .clock(virtual_clock.clock());
        let server = tokio::spawn(server.into_future());
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(get("/").as_bytes()).await.unwrap();
        let (mut connection, _) = backend.accept().await.unwrap();
        read_until(&mut connection, "\r\n\r\n").await;
        stop.send(()).unwrap();
        // A new connection is refused once the listener is closed.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let mut rest = String::new();
        if is_cut {
            virtual_clock.advance(Duration::from_secs(29));
            tokio::task::yield_now().await;
            assert!(!server.is_finished());
            virtual_clock.advance(Duration::from_secs(1));
            drop(client.read_to_string(&mut rest).await);
            assert_eq!(rest, "");
        } else {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            connection.write_all(answer.as_bytes()).await.unwrap();
            client.read_to_string(&mut rest).await.unwrap();
            assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("ok"), "{rest}");
        }
        let served = server.await.unwrap();
        assert_eq!((served.refused, served.cut), (0, u64::from(is_cut)));
        assert!(served.accepted >= 1);
        let stats = proxy.stats()[0].1;
        assert_eq!((stats.in_flight, stats.abandoned), (0, u64::from(is_cut)));
    }
}

#[tokio::test]
async fn edge_2_50_too_many_connections_of_an_address_are_closed_and_counted() {
    let (listener, backend, proxy) = on_sockets().await;
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = serve(listener, proxy)
        .max_per_address(1)
        .until(async { drop(stopped.await) })
        .into_future();
    let server = tokio::spawn(server);
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(second.read(&mut [0]).await.unwrap_or(0), 0);
    // The first one is served.
    first.write_all(get("/").as_bytes()).await.unwrap();
    let (mut connection, _) = backend.accept().await.unwrap();
    read_until(&mut connection, "\r\n\r\n").await;
    connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    let head = read_until(&mut first, "\r\n\r\n").await;
    assert_eq!(status(&head), 204);
    stop.send(()).unwrap();
    let served = server.await.unwrap();
    assert_eq!((served.accepted, served.refused, served.cut), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn edge_2_14_trailers_pass_both_ways_on_h2() {
    let edge = Edge::new(Config::new(), [route_h2()]);
    let mut backend = edge.network.listen("b");
    let (_stage, stages) = watch::channel(Stage::Running);
    let (client, _task) = edge.connect(&stages);
    let io = TokioIo::new(client.into_io());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    tokio::spawn(async move {
        let io = TokioIo::new(backend.accept().await.into_io());
        let service = service_fn(async |request: Request<Incoming>| {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(request.uri(), "http://b/orders.Orders/Place");
            assert_eq!(request.headers()["te"], "trailers");
            assert!(!request.headers().contains_key("connection"));
            let body = request.into_body().collect().await.unwrap();
            let sum = body.trailers().unwrap()["x-sum"].clone();
            let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), sum)]);
            let frames =
                Full::<Bytes>::from(body.to_bytes()).with_trailers(ready(Some(Ok(trailers))));
            Ok::<_, Infallible>(Response::new(frames))
        });
        http2_server::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await
            .unwrap();
    });
    for _ in 0..2 {
        let sum = (HeaderName::from_static("x-sum"), HeaderValue::from_static("7"));
        let trailers = ready(Some(Ok(HeaderMap::from_iter([sum]))));
        let request = Request::post("http://shop.example/orders.Orders/Place")
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(Full::<Bytes>::from("order").with_trailers(trailers))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "7");
        assert_eq!(body.to_bytes(), "order");
    }
    // One connection serves both.
    assert_eq!(edge.network.dialled(), ["b"]);
}

fn route_h2() -> Route {
    Route::new("grpc").to(Upstream::fixed(["http://b"]).unwrap().http2()).public()
}
