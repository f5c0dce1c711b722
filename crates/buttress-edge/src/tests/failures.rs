//! Backends that fail, the answers that clients get then, and the requests that are sent again.

use std::time::Duration;

use buttress::balance::Policy;
use buttress::discover::Instance;
use buttress::{Clock, balance};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::serve::frame;
use super::support::{Backend, Edge, Raw, field, get, route, status};
use crate::{Config, Route, Upstream};

#[tokio::test(start_paused = true)]
async fn a_backend_that_cannot_be_reached_is_502_without_its_address() {
    let edge = Edge::new(Config::new(), [route("all", &["10.0.0.1:8001"])]);
    let (head, body) = edge.open().exchange(get("/")).await;
    assert_eq!(status(&head), 502);
    assert_eq!(field(&head, "content-type"), Some("application/problem+json"));
    assert_eq!(field(&head, "proxy-status"), Some("buttress; error=connection_refused"));
    assert_eq!(
        body,
        r#"{"type":"about:blank","title":"Bad Gateway","status":502,"detail":"the backend cannot be reached","kind":"upstream-failed"}"#
    );
    assert!(!head.contains("10.0.0.1"), "{head}");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_accept_is_504_after_two_seconds() {
    let edge = Edge::new(Config::new(), [route("all", &["never"])]);
    let clock = Clock::default();
    let start = clock.now();
    let (head, _) = edge.open().exchange(get("/")).await;
    assert_eq!((status(&head), clock.now() - start), (504, Duration::from_secs(2)));
    assert_eq!(field(&head, "proxy-status"), Some("buttress; error=connection_timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_is_504_after_ten_seconds() {
    let (edge, mut backend) = Edge::simple();
    let clock = Clock::default();
    let start = clock.now();
    let (mut client, mut connection) = edge.send(get("/"), &mut backend).await;
    // The beginning of a head is not a head.
    connection.write("HTTP/1.1 200 OK\r\nx: ").await;
    let (head, _) = client.answer().await;
    assert_eq!((status(&head), clock.now() - start), (504, Duration::from_secs(10)));
    assert_eq!(field(&head, "proxy-status"), Some("buttress; error=http_response_timeout"));
    // The request is over for the backend too.
    assert_eq!(connection.read_to_end().await, "");
}

#[tokio::test(start_paused = true)]
async fn an_invalid_answer_is_502() {
    let (edge, mut backend) = Edge::simple();
    for answer in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 999999 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ] {
        let (mut client, mut connection) = edge.send(get("/"), &mut backend).await;
        connection.write(answer).await;
        let (head, _) = client.answer().await;
        assert_eq!(status(&head), 502, "{answer}");
        assert_eq!(
            field(&head, "proxy-status"),
            Some("buttress; error=http_protocol_error"),
            "{answer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_gets_200_with_a_status() {
    let edge = Edge::new(Config::new(), [route("all", &["b"]).prefix("/known")]);
    for (path, code) in [("/known/x", "14"), ("/other", "12"), ("/a//b", "13")] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc+proto\r\nContent-Length: 0\r\n\r\n"
        );
        let (head, body) = edge.open().exchange(request).await;
        assert_eq!((status(&head), field(&head, "grpc-status")), (200, Some(code)), "{path}");
        assert_eq!(field(&head, "content-type"), Some("application/grpc"));
        assert!(field(&head, "grpc-message").is_some());
        assert_eq!(body, "");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_post_is_grpc_and_no_refusal_is_cached() {
    let edge = Edge::new(Config::new(), [route("all", &["b"]).prefix("/known")]);
    for (method, expected) in
        [("GET", 404), ("PUT", 404), ("OPTIONS", 404), ("TRACE", 405), ("POST", 200)]
    {
        let request = format!(
            "{method} /other HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n"
        );
        let (head, _) = edge.open().exchange(request).await;
        assert_eq!(status(&head), expected, "{method}");
        assert_eq!(field(&head, "cache-control"), Some("no-store"), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_21_a_refused_connection_moves_any_request_to_another_backend_once() {
    let turns = balance::Config::new().policy(balance::Policy::RoundRobin);
    let upstream = Upstream::balanced(["down", "b"].map(Instance::at), turns).unwrap();
    let edge = Edge::new(Config::new(), [Route::new("all").to(upstream).public()]);
    let mut backend = edge.network.listen("b");
    for _ in 0..2 {
        let mut client = edge.open();
        let body = "x".repeat(200_000);
        let length = body.len();
        client
            .write(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
            ))
            .await;
        let (mut connection, _) = backend.accept_request().await;
        let (mut reader, mut writer) = client.split();
        let write = async {
            tokio::io::AsyncWriteExt::write_all(&mut writer, body.as_bytes()).await.unwrap();
        };
        let (_, received) = tokio::join!(write, connection.read_bytes(length));
        assert!(received == body);
        connection.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(status(&reader.read_head().await), 200);
    }
    assert_eq!(edge.network.dialled(), ["down", "b", "down", "b"]);

    let edge = Edge::new(Config::new(), [route("all", &["x", "y", "z"])]);
    let (head, _) = edge.open().exchange(get("/")).await;
    assert_eq!((status(&head), edge.network.dialled().len()), (502, 2));
}

#[tokio::test(start_paused = true)]
async fn edge_2_22_a_request_whose_answer_was_lost_is_502_and_was_sent_once() {
    let (edge, mut backend) = Edge::simple();
    for method in ["POST", "PUT"] {
        for begun in ["", "HTTP/1.1 2"] {
            let mut client = edge.open();
            client
                .write(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"))
                .await;
            let mut connection = backend.accept().await;
            connection.read_until("hi").await;
            connection.write(begun).await;
            drop(connection);
            let (head, _) = client.answer().await;
            assert_eq!(status(&head), 502);
            assert_eq!(field(&head, "proxy-status"), Some("buttress; error=connection_terminated"));
        }
    }
    assert_eq!(edge.network.dialled(), ["b"; 4]);
}

#[tokio::test(start_paused = true)]
async fn edge_2_23_a_stale_connection_of_the_pool_is_met_by_a_new_one() {
    let (edge, mut backend) = Edge::simple();
    let mut client = edge.open();
    for round in 0..1000 {
        client.write(get("/")).await;
        let (mut stale, _) = backend.serve_one().await;
        assert_eq!(status(&client.answer().await.0), 200);
        // The backend reads the next request and closes: the race that cannot be seen.
        client.write(get("/again")).await;
        stale.read_head().await;
        drop(stale);
        let (fresh, head) = backend.serve_one().await;
        assert!(head.starts_with("GET /again HTTP/1.1\r\n"), "{head}");
        assert_eq!(status(&client.answer().await.0), 200, "round {round}");
        drop(fresh);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_23_a_post_on_a_stale_connection_is_not_sent_again_nor_a_get_on_a_new_one() {
    let (edge, mut backend) = Edge::simple();
    let mut client = edge.open();
    client.write(get("/")).await;
    let (mut stale, _) = backend.serve_one().await;
    client.answer().await;
    client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    stale.read_head().await;
    drop(stale);
    assert_eq!(status(&client.answer().await.0), 502);

    client.write(get("/")).await;
    let (new, _) = backend.accept_request().await;
    drop(new);
    assert_eq!(status(&client.answer().await.0), 502);
    assert_eq!(edge.network.dialled(), ["b"; 2]);
}

#[tokio::test(start_paused = true)]
async fn edge_2_23_the_second_attempt_does_not_meet_another_stale_connection() {
    let (edge, mut backend) = Edge::simple();
    let mut clients = [edge.open(), edge.open()];
    let mut stale = Vec::new();
    for client in &mut clients {
        client.write(get("/")).await;
        let (connection, _) = backend.accept_request().await;
        stale.push(connection);
    }
    for (client, connection) in clients.iter_mut().zip(&mut stale) {
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(status(&client.answer().await.0), 200);
    }
    // Both are in the pool now, and the backend closes each when it reads a request.
    for mut connection in stale {
        tokio::spawn(async move {
            connection.try_read_head().await;
        });
    }
    clients[0].write(get("/again")).await;
    let (_connection, head) = backend.serve_one().await;
    assert!(head.starts_with("GET /again HTTP/1.1\r\n"), "{head}");
    assert_eq!(status(&clients[0].answer().await.0), 200);
}

/// Accepts a connection of HTTP/2, and reads it up to the fields of the first request.
pub(super) async fn accept_http2(backend: &mut Backend) -> Raw {
    let mut connection = backend.accept().await;
    connection.bytes(24).await;
    // SETTINGS, and then the frames of the proxy up to HEADERS.
    connection.write(frame(4, 0, 0, &[])).await;
    loop {
        let head = connection.bytes(9).await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        connection.bytes(length as usize).await;
        if head[3] == 1 {
            return connection;
        }
    }
}

/// Refuses the first stream of a connection of HTTP/2.
async fn refuse(backend: &mut Backend) -> Raw {
    let mut connection = accept_http2(backend).await;
    // RST_STREAM with REFUSED_STREAM.
    connection.write(frame(3, 0, 1, &[0, 0, 0, 7])).await;
    connection
}

#[tokio::test(start_paused = true)]
async fn edge_2_21_a_stream_that_http2_refuses_was_not_sent() {
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let turns = balance::Config::new().policy(Policy::RoundRobin);
    let upstream = Upstream::balanced(["b", "c"].map(Instance::at), turns).unwrap().http2();
    let edge = Edge::new(Config::new(), [Route::new("all").to(upstream).public()]);
    let (mut refuses, mut answers) = (edge.network.listen("b"), edge.network.listen("c"));
    let mut client = edge.open();
    client.write(post).await;
    let _refused = refuse(&mut refuses).await;
    let io = TokioIo::new(answers.accept().await.into_io());
    let service = service_fn(async |request: Request<Incoming>| {
        assert_eq!(request.method(), "POST");
        Ok::<_, std::convert::Infallible>(Response::new(String::from("ok")))
    });
    tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
    let (head, _) = client.answer().await;
    assert_eq!(status(&head), 200);
    assert_eq!(edge.network.dialled(), ["b", "c"]);

    // Without another backend the client gets the failure.
    let upstream = Upstream::fixed(["http://b"]).unwrap().http2();
    let edge = Edge::new(Config::new(), [Route::new("all").to(upstream).public()]);
    let mut refuses = edge.network.listen("b");
    let mut client = edge.open();
    client.write(post).await;
    let _refused = refuse(&mut refuses).await;
    let (head, _) = client.answer().await;
    assert_eq!(status(&head), 502);
    assert_eq!(field(&head, "proxy-status"), Some("buttress; error=destination_unavailable"));
}
