//! Compared answers of HTTP/2: trailers, resets and calls of gRPC.

use std::convert::Infallible;
use std::time::Duration;

use buttress::{Clock, shadow};
use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::super::mirror::idle;
use super::super::{get, upstream};
use super::end;
use crate::tests::support::{Edge, Network, status};
use crate::{Config, Route, RouteShadow};

/// Answers each request at `authority` with "ok" and a trailer. The body breaks off before the trailer without one.
fn answers(network: &Network, authority: &str, trailer: Option<&'static str>) {
    let mut backend = network.listen(authority);
    tokio::spawn(async move {
        loop {
            let io = TokioIo::new(backend.accept().await.into_io());
            let service = service_fn(move |_: Request<Incoming>| {
                let last = trailer.map(|value| {
                    let pair = ("grpc-status".parse().unwrap(), HeaderValue::from_static(value));
                    Frame::trailers(HeaderMap::from_iter([pair]))
                });
                let frames = [Ok(Frame::data(Bytes::from("ok"))), last.ok_or("broken")];
                let body = StreamBody::new(unfold(frames.into_iter(), async |mut frames| {
                    // A reset drops what has not been sent.
                    Clock::default().sleep(Duration::from_millis(1)).await;
                    Some((frames.next()?, frames))
                }));
                std::future::ready(Ok::<_, Infallible>(Response::new(body)))
            });
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
        }
    });
}

#[tokio::test(start_paused = true)]
async fn edge_3_10_trailers_are_not_compared_a_reset_is_incomparable_and_grpc_is_not_copied() {
    for (trailer, expected) in [(Some("13"), "same"), (None, "incomparable")] {
        let new = upstream("mirror").http2_streams(1);
        let shadow = RouteShadow::new(new, shadow::Config::new().share(1.0)).unwrap();
        let route = Route::new("orders").to(upstream("primary").http2()).shadow(shadow.clone());
        let edge = Edge::new(Config::new(), [route.public()]);
        answers(&edge.network, "primary", Some("0"));
        answers(&edge.network, "mirror", trailer);
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\n\
                    Content-Length: 0\r\n\r\n";
        for request in [post, &get("/")] {
            let mut client = edge.open();
            client.write(request).await;
            assert_eq!(status(&client.read_head().await), 200);
            assert_eq!(client.read_until("0\r\n\r\n").await, "2\r\nok\r\n0\r\n\r\n");
            idle(&shadow.handle()).await;
        }
        assert_eq!(end(&shadow).0, expected);
        // The only stream of the first connection is free again.
        edge.open().exchange(get("/")).await;
        idle(&shadow.handle()).await;
        assert_eq!(shadow.handle().stats().mirrored, 2);
        let dialled = edge.network.dialled();
        assert_eq!(dialled.iter().filter(|authority| *authority == "mirror").count(), 1);
    }
}

/// Answers each request at `authority` with this status, length and data. The stream ends in a separate frame.
fn ends_late(network: &Network, authority: &str, head: (u16, u64), data: &'static str) {
    let (mut backend, (status, length)) = (network.listen(authority), head);
    tokio::spawn(async move {
        loop {
            let io = TokioIo::new(backend.accept().await.into_io());
            let service = service_fn(move |_: Request<Incoming>| {
                let frame = (!data.is_empty()).then(|| Frame::data(Bytes::from(data)));
                let body = StreamBody::new(unfold(frame, async |frame| {
                    // The head, or the data, is sent before the end is known.
                    Clock::default().sleep(Duration::from_millis(1)).await;
                    Some((Ok::<_, Infallible>(frame?), None))
                }));
                let response = Response::builder().status(status).header("content-length", length);
                std::future::ready(response.body(body))
            });
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
        }
    });
}

/// Regression: an answer without a body was taken for one that is too long, by the length that it announces. And an
/// answer whose announced bytes all arrived was abandoned, because the end of its stream came later.
#[tokio::test(start_paused = true)]
async fn edge_3_10_the_end_of_a_stream_that_comes_in_a_frame_of_its_own_is_no_difference() {
    let long = 2 << 20;
    for (method, status, lengths, data, expected) in [
        ("HEAD", 200, [3, long], ["", ""], ("same", "nothing")),
        ("HEAD", 200, [long, long], ["", ""], ("same", "nothing")),
        ("GET", 304, [3, long], ["", ""], ("same", "nothing")),
        ("GET", 200, [3, 3], ["abc", "abc"], ("same", "nothing")),
        ("GET", 200, [3, 3], ["abc", "abd"], ("different", "body")),
    ] {
        let new = upstream("mirror").http2();
        let shadow = RouteShadow::new(new, shadow::Config::new().share(1.0)).unwrap();
        let route = Route::new("orders").to(upstream("primary").http2()).shadow(shadow.clone());
        let edge = Edge::new(Config::new(), [route.public()]);
        for (authority, (length, data)) in
            ["primary", "mirror"].into_iter().zip(lengths.into_iter().zip(data))
        {
            ends_late(&edge.network, authority, (status, length), data);
        }
        let mut client = edge.open();
        client.write(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        client.read_head().await;
        client.read_bytes(data[0].len()).await;
        idle(&shadow.handle()).await;
        assert_eq!(end(&shadow), expected, "{method} {status} {lengths:?}");
        let stats = edge.proxy.stats()[0].1;
        assert_eq!((stats.begun, stats.answered), (1, 1), "{method} {status}: {stats:?}");
        let stats = edge.proxy.handle().mirror("orders").unwrap().stats()[0].1;
        assert_eq!((stats.begun, stats.answered), (1, 1), "{method} {status}: {stats:?}");
    }
}

/// Regression: a mirror whose connection went silent got every later copy on this connection.
#[tokio::test(start_paused = true)]
async fn edge_3_7_a_copy_that_ends_at_its_limit_leaves_a_silent_connection() {
    let config = shadow::Config::new().share(1.0).within(Duration::from_secs(5));
    let shadow = RouteShadow::new(upstream("mirror").http2(), config).unwrap();
    let route = Route::new("orders").to(upstream("primary").http2()).shadow(shadow.clone());
    let edge = Edge::new(Config::new(), [route.public()]);
    answers(&edge.network, "primary", Some("0"));
    let mut mirror = edge.network.listen("mirror");
    tokio::spawn(async move {
        for turn in 0.. {
            let io = TokioIo::new(mirror.accept().await.into_io());
            let service = service_fn(move |_: Request<Incoming>| async move {
                if turn == 0 {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("ok"))))
            });
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service));
        }
    });
    // The first connection still reads the settings of its peer while the first copy waits.
    for _ in 0..3 {
        let mut client = edge.open();
        client.write(get("/")).await;
        client.read_until("0\r\n\r\n").await;
        idle(&shadow.handle()).await;
    }
    let stats = shadow.handle().stats();
    assert!(stats.same > 0 && stats.same + stats.timed_out == 3, "{stats:?}");
}
