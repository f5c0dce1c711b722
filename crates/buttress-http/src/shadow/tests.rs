use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use buttress::retry::CloneRequest;
use buttress::shadow::{Config, Mismatch, Shadow, Stats};
use bytes::Bytes;
use http::{HeaderName, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::split::ByResponse;

mod bodies;

fn request(method: Method, length: usize) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::from(vec![b'x'; length]));
    *request.method_mut() = method;
    request
}

#[test]
fn only_safe_requests_with_small_bodies_are_copied_and_each_copy_is_marked() {
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        let original = request(method.clone(), 64 * 1024);
        let copy = SafeRequests.clone_request(&original).unwrap();
        assert_eq!((copy.method(), &copy.headers()["x-shadow"]), (&method, &"1".parse().unwrap()));
        assert!(!original.headers().contains_key("x-shadow"));
        assert!(SafeRequests.clone_request(&request(method, 64 * 1024 + 1)).is_none());
    }
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE] {
        assert!(SafeRequests.clone_request(&request(method.clone(), 0)).is_none(), "{method}");
    }
}

#[test]
fn a_handshake_of_a_websocket_is_not_copied() {
    let mut handshake = request(Method::GET, 0);
    handshake.headers_mut().insert("connection", "upgrade".parse().unwrap());
    assert!(SafeRequests.clone_request(&handshake).is_some());
    handshake.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    assert!(SafeRequests.clone_request(&handshake).is_none());
}

/// The frames of a body. `Err` breaks it off.
type Frames = Vec<Result<&'static str, &'static str>>;

/// A response: its status, a header, and the frames of its body.
type Answer = (u16, (&'static str, &'static str), Frames);

/// Mirrors one request. Returns the numbers, and the mismatches.
async fn mirror(primary: Answer, mirror: Answer, read: bool) -> (Stats, Vec<String>) {
    let service = |(status, (name, value), frames): Answer| {
        service_fn(move |_: Request<Full<Bytes>>| {
            let body = Streamed(frames.clone().into_iter());
            let response = Response::builder().status(status).header(name, value).body(body);
            std::future::ready(Ok::<_, Infallible>(response.unwrap()))
        })
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let eye = seen.clone();
    let config = Config::new().share(1.0).keep_one_in(1);
    let config = config.on_mismatch(move |it: &Mismatch| eye.lock().unwrap().push(it.to_string()));
    let (primary, mirror) = (service(primary), service(mirror));
    let (primary, mirror) = (DigestBodyLayer.layer(primary), DigestBodyLayer.layer(mirror));
    let shadow = Shadow::new(primary, mirror, SafeRequests, config).unwrap();
    let compare = CompareResponses::new().ignore(HeaderName::from_static("x-noise"));
    let shadow = shadow.judge(ByResponse::new()).compare(compare);
    let handle = shadow.handle();
    let response = shadow.oneshot(request(Method::GET, 0)).await.unwrap();
    if read {
        drop(response.into_body().collect().await);
    } else {
        drop(response);
    }
    while handle.stats().running > 0 {
        tokio::task::yield_now().await;
    }
    let seen = seen.lock().unwrap().clone();
    (handle.stats(), seen)
}

/// A body of these frames.
struct Streamed(std::vec::IntoIter<Result<&'static str, &'static str>>);

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, &'static str>>> {
        let frame = self.0.next();
        std::task::Poll::Ready(frame.map(|data| data.map(|it| http_body::Frame::data(it.into()))))
    }
}

fn fine() -> Answer {
    (200, ("x-kind", "a"), vec![Ok("3 "), Ok("orders")])
}

#[tokio::test(start_paused = true)]
async fn edge_3_10_responses_that_differ_only_in_what_is_ignored_are_the_same() {
    let same = |name, value| (200, (name, value), vec![Ok("3 orders")]);
    let plain = || (200, ("date", "now"), vec![Ok("3 "), Ok("orders")]);
    for name in [
        "date",
        "x-request-id",
        "x-correlation-id",
        "traceparent",
        "tracestate",
        "b3",
        "x-b3-traceid",
        "connection",
        "proxy-connection",
        "proxy-authenticate",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
        "x-noise",
    ] {
        let (stats, seen) = mirror(plain(), same(name, "other"), true).await;
        assert_eq!((stats.same, seen), (1, vec![]), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn edge_3_10_status_header_and_body_are_compared() {
    let cases: [(Answer, &str); 4] = [
        ((500, ("x-kind", "a"), vec![Ok("3 orders")]), "status: 200 and 500"),
        ((200, ("x-kind", "b"), vec![Ok("3 orders")]), "header x-kind"),
        ((200, ("x-other", "a"), vec![Ok("3 orders")]), "header x-kind"),
        ((200, ("x-kind", "a"), vec![Ok("2 orders")]), "body"),
    ];
    for (other, what) in cases {
        let (stats, seen) = mirror(fine(), other, true).await;
        assert_eq!((stats.different, seen), (1, vec![what.to_owned()]));
    }
}

#[tokio::test(start_paused = true)]
async fn edge_3_10_a_truncated_body_is_incomparable_and_not_different() {
    let broken = || (200, ("x-kind", "a"), vec![Ok("3 "), Err("reset")]);
    for (primary, other, read) in [
        (broken(), fine(), true),
        (fine(), broken(), true),
        (broken(), broken(), true),
        // The client left.
        (fine(), fine(), false),
    ] {
        let (stats, seen) = mirror(primary, other, read).await;
        assert_eq!((stats.incomparable, stats.different, seen), (1, 0, vec![]));
    }
}
