//! Streaming, and what ends it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::Clock;
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tower::{BoxError, Service};

use super::frames::Frames;
use super::support::{Edge, field, get, in_time, route, status};
use crate::body::PolledFrame;
use crate::{Body, Config};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn edge_2_17_an_event_arrives_before_the_next_one_is_sent() {
    let (edge, mut backend) = Edge::simple();
    let (mut client, mut connection) = edge.send(get("/events"), &mut backend).await;
    connection.write(CHUNKED).await;
    client.read_head().await;
    for event in ["a", "b", "c"] {
        connection.write(format!("1\r\n{event}\r\n")).await;
        assert_eq!(client.read_until("\r\n").await, "1\r\n");
        assert_eq!(client.read_until("\r\n").await, format!("{event}\r\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_streams_before_it_is_whole() {
    let (edge, mut backend) = Edge::simple();
    let mut client = edge.open();
    client.write("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab").await;
    let mut connection = backend.accept().await;
    assert_eq!(field(&connection.read_head().await, "content-length"), Some("4"));
    assert_eq!(connection.read_until("ab").await, "ab");
    client.write("cd").await;
    assert_eq!(connection.read_until("cd").await, "cd");
}

#[tokio::test(start_paused = true)]
async fn edge_2_18_a_backend_that_dies_mid_body_is_never_a_clean_end() {
    let (edge, mut backend) = Edge::simple();
    for head in [CHUNKED, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"] {
        let (mut client, mut connection) = edge.send(get("/"), &mut backend).await;
        connection.write(head).await;
        client.read_head().await;
        connection.write("3\r\nabc\r\n").await;
        client.read_until("abc\r\n").await;
        drop(connection);
        // No last chunk, and not all bytes of the length.
        assert_eq!(client.read_to_end().await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_a_client_that_leaves_drops_the_request_to_the_backend() {
    let (edge, mut backend) = Edge::simple();
    // Before the head of the answer, after it, and while the client still sends.
    for upload in ["", "Content-Length: 10\r\n"] {
        for answer in ["", CHUNKED] {
            let (mut client, mut connection) =
                edge.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{upload}\r\n"), &mut backend).await;
            connection.write(answer).await;
            if !answer.is_empty() {
                client.read_head().await;
            }
            let before = Clock::default().now();
            drop(client);
            assert_eq!(connection.read_to_end().await, "");
            assert_eq!(Clock::default().now(), before, "{upload:?} {answer:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_20_a_steady_stream_lives_and_an_idle_one_fails() {
    let (edge, mut backend) = Edge::simple();
    let clock = Clock::default();
    let (mut client, mut connection) = edge.send(get("/"), &mut backend).await;
    connection.write(CHUNKED).await;
    client.read_head().await;
    let start = clock.now();
    while clock.now() - start < Duration::from_secs(3600) {
        clock.sleep(Duration::from_secs(59)).await;
        connection.write("1\r\na\r\n").await;
        client.read_until("a\r\n").await;
    }
    let last = clock.now();
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(clock.now() - last, Duration::from_secs(60));
    assert_eq!(connection.read_to_end().await, "");
}

#[tokio::test(start_paused = true)]
async fn edge_2_20_a_slow_but_steady_upload_lives_and_an_idle_one_is_408() {
    let (edge, mut backend) = Edge::simple();
    let clock = Clock::default();
    let (mut client, mut connection) =
        edge.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n", &mut backend).await;
    for _ in 0..61 {
        clock.sleep(Duration::from_secs(59)).await;
        client.write("a").await;
        connection.read_until("a").await;
    }
    let last = clock.now();
    let (head, _) = client.answer().await;
    assert_eq!((status(&head), clock.now() - last), (408, Duration::from_secs(60)));
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(connection.read_to_end().await, "");
}

#[tokio::test(start_paused = true)]
async fn the_head_limit_starts_at_the_end_of_the_upload() {
    let (edge, mut backend) = Edge::simple();
    let clock = Clock::default();
    let (mut client, mut connection) =
        edge.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n", &mut backend).await;
    for _ in 0..2 {
        clock.sleep(Duration::from_secs(30)).await;
        client.write("a").await;
        connection.read_until("a").await;
    }
    let last = clock.now();
    let (head, _) = client.answer().await;
    assert_eq!((status(&head), clock.now() - last), (504, Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_read_the_upload_is_504_at_the_idle_limit() {
    let (edge, mut backend) = Edge::simple();
    let clock = Clock::default();
    let mut client = edge.open();
    let start = clock.now();
    let length = 4 * 1024 * 1024;
    client.write(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).await;
    let _connection = backend.accept().await;
    let (mut reader, mut writer) = client.split();
    let upload = vec![b'a'; length];
    // The rest of the upload is not waited for.
    let (written, head) = tokio::join!(in_time(writer.write_all(&upload)), reader.read_head());
    assert!(written.is_err());
    assert_eq!((status(&head), clock.now() - start), (504, Duration::from_secs(60)));
}

/// A body without an end.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> PolledFrame {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'a'; 16 * 1024])))))
    }
}

#[tokio::test(start_paused = true)]
async fn edge_2_19_what_an_upload_holds_returns_although_the_backend_does_not_read() {
    for answer in ["", CHUNKED, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] {
        let (edge, mut backend) = Edge::simple();
        let permit = Arc::new(());
        let body = Body::new(Endless).hold(Arc::clone(&permit));
        let request = Request::put("/").header("host", "a").body(body).unwrap();
        let mut proxy = edge.proxy.clone();
        let call = tokio::spawn(async move {
            let response = proxy.call(request).await.unwrap();
            response.into_body().collect().await
        });
        let mut connection = backend.accept().await;
        connection.write(answer).await;
        Clock::default().sleep(Duration::from_secs(1)).await;
        let ended = answer.contains("Content-Length");
        assert_eq!(Arc::strong_count(&permit), if ended { 1 } else { 2 }, "{answer}");
        call.abort();
        drop(call.await);
        assert_eq!(Arc::strong_count(&permit), 1, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_the_limit_is_413_announced_or_not() {
    let edge = Edge::new(Config::new(), [route("all", &["b"]).max_request_body(5)]);
    let mut backend = edge.network.listen("b");
    let (head, _) =
        edge.open().exchange("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n").await;
    assert_eq!((status(&head), field(&head, "connection")), (413, Some("close")));
    assert_eq!(edge.network.dialled(), [""; 0]);

    let chunks = |last: &str| {
        format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n{last}0\r\n\r\n"
        )
    };
    let mut client = edge.open();
    client.write(chunks("3\r\ndef\r\n")).await;
    let mut connection = backend.accept().await;
    assert_eq!(status(&client.answer().await.0), 413);
    let seen = connection.read_to_end().await;
    assert!(!seen.ends_with("0\r\n\r\n"), "{seen}");

    let mut client = edge.open();
    client.write(chunks("2\r\nde\r\n")).await;
    let mut connection = backend.accept().await;
    connection.read_until("0\r\n\r\n").await;
    connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(status(&client.answer().await.0), 200);
}

/// Regression: the connection to the backend reads nothing after the trailers and after the announced length. The
/// proxy took the upload for one that continues, and granted the backend the idle limit.
#[tokio::test(start_paused = true)]
async fn edge_2_20_an_upload_that_a_backend_has_whole_leaves_it_the_time_for_a_head() {
    let data = || Frame::data(Bytes::from("hi"));
    let trailers = Frame::trailers(http::HeaderMap::from_iter([(
        http::HeaderName::from_static("x-sum"),
        http::HeaderValue::from_static("7"),
    )]));
    for (upload, last, seconds) in [
        (Frames::open([data(), trailers], None), "hi", 10),
        (Frames::open([data()], Some(2)), "hi", 10),
        (Frames::open([], Some(0)), "\r\n\r\n", 10),
        // One byte is missing.
        (Frames::open([data()], Some(3)), "hi", 60),
    ] {
        let (edge, mut backend) = Edge::simple();
        let request = Request::post("/").header("host", "a").body(Body::new(upload)).unwrap();
        let start = Clock::default().now();
        let call = tokio::spawn(edge.proxy.clone().call(request));
        let mut connection = backend.accept().await;
        connection.read_until(last).await;
        assert_eq!(call.await.unwrap().unwrap().status(), if seconds == 10 { 504 } else { 408 });
        assert_eq!((Clock::default().now() - start).as_secs(), seconds);
    }
}
