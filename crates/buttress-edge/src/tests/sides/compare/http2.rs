//! Compared answers of HTTP/2: trailers, resets and calls of gRPC.

use std::convert::Infallible;
use std::time::Duration;

use buttress::{Clock, shadow};
use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
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
