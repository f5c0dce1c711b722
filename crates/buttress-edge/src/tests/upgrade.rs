//! Upgrades, and the tunnels after them.

use std::future::IntoFuture;
use std::time::Duration;

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::{Clock, VirtualClock};
use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};
use tower::Service;

use super::support::{Backend, Edge, Raw, field, route, status};
use crate::serve::connection::Stage;
use crate::{Body, Config, Proxy, Route, RouteStats, Upstream, serve};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, UPGRADE\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";

/// Opens a tunnel.
async fn tunnel(edge: &Edge, backend: &mut Backend) -> (Raw, Raw) {
    let mut client = edge.open();
    client.write(ASK).await;
    let (mut connection, head) = backend.accept_request().await;
    assert_eq!(field(&head, "connection"), Some("upgrade"), "{head}");
    assert_eq!(field(&head, "upgrade"), Some("websocket"));
    connection.write(SWITCHED).await;
    let head = client.read_head().await;
    assert_eq!(status(&head), 101);
    assert_eq!(field(&head, "connection"), Some("upgrade"), "{head}");
    assert_eq!(field(&head, "upgrade"), Some("websocket"));
    assert_eq!(field(&head, "sec-websocket-accept"), Some("x"));
    assert_eq!(field(&head, "transfer-encoding"), None);
    (client, connection)
}

fn stats(edge: &Edge) -> RouteStats {
    edge.proxy.stats()[0].1
}

async fn ended(edge: &Edge) -> RouteStats {
    while stats(edge).in_flight > 0 {
        tokio::task::yield_now().await;
    }
    stats(edge)
}

#[tokio::test(start_paused = true)]
async fn edge_2_29_bytes_pass_both_ways_and_a_half_close_too() {
    let (edge, mut backend) = Edge::simple();
    let (mut client, mut connection) = tunnel(&edge, &mut backend).await;
    for n in 0..3 {
        client.write(format!("to {n}")).await;
        assert_eq!(connection.read_bytes(4).await, format!("to {n}"));
        connection.write(format!("from {n}")).await;
        assert_eq!(client.read_bytes(6).await, format!("from {n}"));
    }
    assert_eq!(stats(&edge), RouteStats { begun: 1, in_flight: 1, ..RouteStats::default() });
    // The client has said everything, and still listens.
    let (mut reader, mut writer) = client.split();
    writer.shutdown().await.unwrap();
    assert_eq!(connection.read_to_end().await, "");
    connection.write("last words").await;
    assert_eq!(reader.read_bytes(10).await, "last words");
    assert_eq!(stats(&edge).in_flight, 1);
    drop(connection);
    assert_eq!(reader.read_to_end().await, "");
    assert_eq!(ended(&edge).await, RouteStats { begun: 1, answered: 1, ..RouteStats::default() });
}

#[tokio::test(start_paused = true)]
async fn edge_2_27_only_a_get_with_both_fields_asks_for_an_upgrade() {
    for (method, fields) in [
        ("POST", "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n"),
        ("GET", "Upgrade: websocket\r\n"),
        ("GET", "Connection: upgrade\r\n"),
        ("GET", "Connection: upgrade\r\nUpgrade: h2c\r\n"),
        ("GET", "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n"),
        ("GET", "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n"),
    ] {
        let (edge, mut backend) = Edge::simple();
        let mut client = edge.open();
        let body = if fields.ends_with("2\r\n") { "hi" } else { "" };
        client.write(format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")).await;
        let (mut connection, head) = backend.accept_request().await;
        assert_eq!((field(&head, "upgrade"), field(&head, "connection")), (None, None), "{head}");
        // A backend that switches nevertheless has given no answer.
        connection.write(SWITCHED).await;
        assert_eq!(status(&client.read_head().await), 502, "{fields}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_27_a_backend_cannot_switch_to_a_protocol_that_was_not_asked_for() {
    for (answered, code) in [("h2c", 502), ("websocket, h2c", 502), ("WebSocket", 101)] {
        let (edge, mut backend) = Edge::simple();
        let (mut client, mut connection) = edge.send(ASK, &mut backend).await;
        connection.write(SWITCHED.replace("websocket\r", &format!("{answered}\r"))).await;
        assert_eq!(status(&client.read_head().await), code, "{answered}");
        assert_eq!(stats(&edge).failed, u64::from(code == 502));
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_27_an_upgrade_outside_of_hyper_is_an_ordinary_request() {
    let edge = Edge::new(
        Config::new(),
        [Route::new("all").to(Upstream::fixed(["http://b"]).unwrap()).public()],
    );
    let mut backend = edge.network.listen("b");
    let mut proxy = edge.proxy.clone();
    let request = Request::get("/").header("host", "a").header("connection", "upgrade");
    let request = request.header("upgrade", "websocket").body(Body::empty()).unwrap();
    let call = tokio::spawn(async move { proxy.call(request).await.unwrap() });
    let (_connection, head) = backend.serve_one().await;
    assert_eq!(field(&head, "upgrade"), None);
    assert_eq!(call.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn edge_2_28_another_answer_than_101_is_passed_on() {
    let (edge, mut backend) = Edge::simple();
    for code in [200, 426] {
        let (mut client, mut connection) = edge.send(ASK, &mut backend).await;
        connection.write(format!("HTTP/1.1 {code} X\r\nContent-Length: 2\r\n\r\nno")).await;
        let (head, body) = client.answer().await;
        assert_eq!((status(&head), &*body), (code, "no"));
        drop(connection);
    }
    let expected = RouteStats { begun: 2, answered: 2, ..RouteStats::default() };
    assert_eq!(stats(&edge), expected);
}

#[tokio::test(start_paused = true)]
async fn edge_2_29_no_limit_but_the_idle_one_ends_a_tunnel() {
    let limited = route("all", &["b"]).time_limit(Duration::from_secs(5));
    let edge = Edge::new(Config::new(), [limited]);
    let mut backend = edge.network.listen("b");
    let clock = Clock::default();
    let (mut client, mut connection) = tunnel(&edge, &mut backend).await;
    // One direction suffices.
    for _ in 0..60 {
        clock.sleep(Duration::from_secs(59)).await;
        connection.write("x").await;
        assert_eq!(client.read_bytes(1).await, "x");
    }
    let last = clock.now();
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(clock.now() - last, Duration::from_secs(60));
    assert_eq!(connection.read_to_end().await, "");
    assert_eq!(ended(&edge).await, RouteStats { begun: 1, abandoned: 1, ..RouteStats::default() });
}

#[tokio::test(start_paused = true)]
async fn edge_2_30_a_permit_is_held_until_the_tunnel_ends() {
    let bulkhead = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(1)).unwrap().handle();
    let edge = Edge::new(Config::new(), [route("all", &["b"]).max_concurrent(bulkhead.clone())]);
    let mut backend = edge.network.listen("b");
    for leaves in [false, true] {
        let (client, connection) = tunnel(&edge, &mut backend).await;
        assert_eq!(bulkhead.stats().active, 1);
        assert_eq!(status(&edge.open().exchange(ASK).await.0), 503);
        let (mut rest, gone) = if leaves { (connection, client) } else { (client, connection) };
        drop(gone);
        assert_eq!(rest.read_to_end().await, "");
        assert_eq!(bulkhead.stats().active, 1);
        drop(rest);
        while bulkhead.stats().active > 0 {
            tokio::task::yield_now().await;
        }
    }
    let stats = ended(&edge).await;
    assert_eq!((stats.answered, stats.refused.at_capacity), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_before_its_upgrade_is_abandoned() {
    let (edge, mut backend) = Edge::simple();
    let (client, mut connection) = edge.send(ASK, &mut backend).await;
    drop(client);
    assert_eq!(connection.read_to_end().await, "");
    assert_eq!(ended(&edge).await, RouteStats { begun: 1, abandoned: 1, ..RouteStats::default() });
}

#[tokio::test(start_paused = true)]
async fn edge_2_29_a_tunnel_outlives_the_beginning_of_a_drain_and_not_its_end() {
    let (edge, mut backend) = Edge::simple();
    let (stage, stages) = watch::channel(Stage::Running);
    let (mut client, _task) = edge.connect(&stages);
    drop(stages);
    client.write(ASK).await;
    let (mut connection, _) = backend.accept_request().await;
    connection.write(SWITCHED).await;
    client.read_head().await;
    stage.send_replace(Stage::Draining);
    for _ in 0..3 {
        client.write("x").await;
        assert_eq!(connection.read_bytes(1).await, "x");
        Clock::default().sleep(Duration::from_secs(1)).await;
    }
    stage.send_replace(Stage::Over);
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(connection.read_to_end().await, "");
    // The listener waits for this.
    stage.closed().await;
    assert_eq!(stats(&edge), RouteStats { begun: 1, abandoned: 1, ..RouteStats::default() });
}

/// A gateway and its backend on real sockets, and the signal to stop.
struct Sockets {
    proxy: Proxy,
    backend: TcpListener,
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    clock: VirtualClock,
    server: tokio::task::JoinHandle<crate::Served>,
}

async fn on_sockets(max: usize) -> Sockets {
    let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let authority = backend.local_addr().unwrap().to_string();
    let proxy = Proxy::new(Config::new(), [route("all", &[&authority])]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let clock = VirtualClock::new();
    let server = serve(listener, proxy.clone())
        .max_connections(max)
        .until(async { drop(stopped.await) })
        .clock(clock.clock());
    let server = tokio::spawn(server.into_future());
    Sockets { proxy, backend, address, stop, clock, server }
}

#[tokio::test]
async fn edge_2_27_a_websocket_works_end_to_end() {
    let sockets = on_sockets(10).await;
    let backend = tokio::spawn(async move {
        let (io, _) = sockets.backend.accept().await.unwrap();
        let mut socket = accept_async(io).await.unwrap();
        let mut seen = 0;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
            seen += 1;
            socket.send(message).await.unwrap();
        }
        seen
    });
    let io = TcpStream::connect(sockets.address).await.unwrap();
    let (mut socket, response) = client_async("ws://shop.example/chat", io).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    for text in ["a", "b", &"c".repeat(1_000_000)] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    assert_eq!(backend.await.unwrap(), 3);
    sockets.stop.send(()).unwrap();
    let served = sockets.server.await.unwrap();
    assert_eq!((served.accepted, served.cut), (1, 0));
    let expected = RouteStats { begun: 1, answered: 1, ..RouteStats::default() };
    assert_eq!(sockets.proxy.stats()[0].1, expected);
}

#[tokio::test]
async fn edge_2_29_the_end_of_the_drain_cuts_tunnels_and_their_places_are_taken_until_then() {
    let sockets = on_sockets(1).await;
    let mut client = TcpStream::connect(sockets.address).await.unwrap();
    client.write_all(ASK.as_bytes()).await.unwrap();
    let (mut connection, _) = sockets.backend.accept().await.unwrap();
    let mut buffer = vec![0; 4096];
    assert!(connection.read(&mut buffer).await.unwrap() > 0);
    connection.write_all(SWITCHED.as_bytes()).await.unwrap();
    assert!(client.read(&mut buffer).await.unwrap() > 0);
    // The only place is taken.
    let mut second = TcpStream::connect(sockets.address).await.unwrap();
    assert_eq!(second.read(&mut buffer).await.unwrap_or(0), 0);

    sockets.stop.send(()).unwrap();
    while TcpStream::connect(sockets.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    client.write_all(b"still here").await.unwrap();
    let mut seen = [0; 10];
    connection.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"still here");
    assert!(!sockets.server.is_finished());
    sockets.clock.advance(Duration::from_secs(30));
    assert_eq!(client.read(&mut buffer).await.unwrap_or(0), 0);
    let served = sockets.server.await.unwrap();
    assert_eq!((served.accepted, served.cut), (1, 1));
    assert!(served.refused >= 1);
    let expected = RouteStats { begun: 1, abandoned: 1, ..RouteStats::default() };
    assert_eq!(sockets.proxy.stats()[0].1, expected);
}
