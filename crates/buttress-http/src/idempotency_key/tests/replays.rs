//! Stored and replayed responses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buttress::idempotency::{Encoded, Leave, MemoryStore};
use http::HeaderValue;
use http::header::{CONNECTION, CONTENT_TYPE, DATE, LOCATION, SET_COOKIE};

use super::*;
use crate::Refusal;
use crate::frame::PolledFrame;

pub(super) fn headers<const N: usize>(fields: [(&'static str, &'static [u8]); N]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let value = HeaderValue::from_bytes(value).unwrap();
        headers.append(http::HeaderName::from_static(name), value);
    }
    headers
}

pub(super) fn rich(_: u32, _: &HeaderMap, _: Bytes) -> Response<Script> {
    let trailers = headers([("checksum", b"1"), ("checksum", b"2")]);
    let body = [data("one "), Step::Pending, data(""), data("two"), Step::Trailers(trailers)];
    let mut response = Response::new(Script::new(body));
    *response.status_mut() = http::StatusCode::from_u16(299).unwrap();
    *response.headers_mut() = headers([
        ("set-cookie", b"a=1"),
        ("x-first", b"1"),
        ("keep-alive", b"timeout=5"),
        ("set-cookie", b"b=2"),
        ("connection", b"close, X-Hop"),
        ("x-hop", b"hop"),
        ("date", b"Tue, 01 Feb 2022 00:00:00 GMT"),
        ("transfer-encoding", b"chunked"),
        ("x-bytes", b"caf\xe9 \xff"),
        ("set-cookie", b"a=1"),
        ("location", b"/charges/1"),
        ("trailer", b"checksum"),
    ]);
    response
}

#[tokio::test(start_paused = true)]
async fn status_header_body_and_trailers_come_back_byte_for_byte() {
    let (layer, inner) = (layer(), Inner::new(rich));
    let first = send(&layer, &inner, post("a", "7")).await;
    assert_eq!(first.headers, rich(1, &HeaderMap::new(), Bytes::new()).into_parts().0.headers);
    assert_eq!((first.status, first.body.as_str()), (299, "one two"));
    assert!(first.headers.contains_key(CONNECTION), "the first response passes unchanged");

    let again = send(&layer, &inner, post("a", "7")).await;
    assert_eq!(inner.calls(), 1);
    let expected = headers([
        ("x-first", b"1"),
        ("date", b"Tue, 01 Feb 2022 00:00:00 GMT"),
        ("x-bytes", b"caf\xe9 \xff"),
        ("location", b"/charges/1"),
        ("trailer", b"checksum"),
        ("idempotency-replayed", b"true"),
    ]);
    let in_order = |headers: &HeaderMap| -> Vec<(String, Vec<u8>)> {
        let text = |(name, value): (&http::HeaderName, &HeaderValue)| {
            (name.to_string(), value.as_bytes().to_vec())
        };
        headers.iter().map(text).collect()
    };
    assert_eq!(in_order(&again.headers), in_order(&expected));
    assert_eq!((again.status, &again.body, &again.trailers), (299, &first.body, &first.trailers));
    assert_eq!(again.trailers, Some(headers([("checksum", b"1"), ("checksum", b"2")])));
    assert_eq!((first.error, again.error), (None, None));
    assert_eq!(again.headers[DATE], first.headers[DATE]);
    assert_eq!(again.headers[LOCATION], first.headers[LOCATION]);
    assert_eq!(first.headers.get_all(SET_COOKIE).iter().count(), 3);
}

/// A replay must not reveal the session of the first caller.
#[tokio::test(start_paused = true)]
async fn fields_of_one_caller_are_left_out_of_replays_and_of_the_store() {
    let fields = [
        "set-cookie",
        "set-cookie2",
        "www-authenticate",
        "authentication-info",
        "proxy-authentication-info",
        "proxy-authenticate",
        "x-session",
        "x-plain",
    ];
    let secret = move || {
        let mut headers = HeaderMap::new();
        for name in fields {
            headers.append(http::HeaderName::from_static(name), HeaderValue::from_static("secret"));
        }
        headers
    };
    let inner = Inner::new(move |_, _, _| {
        let mut response = Response::new(Script::new([data("body"), Step::Trailers(secret())]));
        *response.headers_mut() = secret();
        response
    });
    let names = |headers: &HeaderMap| -> Vec<String> {
        headers
            .keys()
            .map(ToString::to_string)
            .filter(|name| name != "idempotency-replayed")
            .collect()
    };
    let bytes = MemoryStore::<Vec<u8>>::default();
    let over = |leave_out: &[&'static str], replayed: &[&'static str]| {
        let named = |names: &[&'static str]| -> Vec<_> {
            names.iter().map(|name| http::HeaderName::from_static(name)).collect()
        };
        let store = Encoded::new(bytes.clone(), ResponseCodec);
        IdempotencyKeyLayer::unscoped(IdempotencyKeyLayer::config(), store)
            .unwrap()
            .leave_out(named(leave_out))
            .replay_fields(named(replayed))
    };
    let layer = over(&["x-session"], &[]);
    let first = send(&layer, &inner, post("a", "7")).await;
    assert_eq!(names(&first.headers), fields, "the first caller gets them");
    for layer in [layer, over(&[], &[])] {
        let again = send(&layer, &inner, post("a", "7")).await;
        assert!(again.replayed());
        assert_eq!(names(&again.headers), ["x-plain"], "the store has no such field");
        assert_eq!(names(&again.trailers.unwrap()), ["x-plain"]);
    }
    // One layer replays the fields and stores them. Another layer does not replay them.
    let open = over(&[], &["set-cookie"]);
    send(&open, &inner, post("b", "7")).await;
    let again = send(&open, &inner, post("b", "7")).await;
    assert_eq!(names(&again.headers), ["set-cookie", "x-session", "x-plain"]);
    let again = send(&over(&["x-session"], &[]), &inner, post("b", "7")).await;
    assert_eq!(names(&again.headers), ["x-plain"]);
}

/// Regression: the key of a response above the cap was free, so that a retry charged twice.
#[tokio::test(start_paused = true)]
async fn a_response_above_the_cap_is_not_stored_and_its_work_is_not_done_again() {
    let (lifetime, inner) = (Duration::from_secs(300), Inner::counting(201));
    let config = || IdempotencyKeyLayer::config().result_lifetime(lifetime);
    let layer = with(config()).response_cap(5);
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (201, "call 1", false));
    tokio::time::advance(lifetime - Duration::from_millis(1)).await;
    let again = send(&layer, &inner, post("a", "7")).await;
    again.is_problem(422, "result-not-kept");
    assert!(!again.headers.contains_key("retry-after"), "{again:?}");
    send(&layer, &inner, post("a", "8")).await.is_problem(422, "key-reused");
    assert_eq!(inner.calls(), 1);
    let stats = layer.handle().stats();
    assert_eq!((stats.not_kept, stats.failed, stats.refused), (1, 0, 2));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (201, "call 2", false));

    let layer = with(config().rerun_if_not_kept(true)).response_cap(5);
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (201, "call 3", false));
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (201, "call 4", false));
}

#[tokio::test(start_paused = true)]
async fn the_same_through_a_store_of_bytes() {
    let store = Encoded::new(MemoryStore::<Vec<u8>>::default(), ResponseCodec);
    let encoded = IdempotencyKeyLayer::unscoped(IdempotencyKeyLayer::config(), store).unwrap();
    let (layer, inner) = (layer(), Inner::new(rich));
    let mut replayed = Vec::new();
    for layer in [encoded, layer] {
        assert!(!send(&layer, &inner, post("a", "7")).await.replayed());
        replayed.push(send(&layer, &inner, post("a", "7")).await);
    }
    assert!(replayed[0].replayed());
    assert_eq!(replayed[0], replayed[1]);
}

#[tokio::test(start_paused = true)]
async fn the_mark_can_have_another_name_or_none() {
    let inner = Inner::counting(200);
    let layer = layer();
    send(&layer, &inner, post("a", "7")).await;
    let named = layer.clone().marker(http::HeaderName::from_static("x-again"));
    assert_eq!(send(&named, &inner, post("a", "7")).await.headers["x-again"], "true");
    assert!(send(&layer.marker(None), &inner, post("a", "7")).await.headers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_retry_may_do_better_is_not_stored() {
    for status in 200..600 {
        let (layer, inner) = (layer(), Inner::counting(status));
        let stored = status < 500 && ![408, 425, 429].contains(&status);
        assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (status, "call 1", false));
        let again = send(&layer, &inner, post("a", "7")).await;
        let expected = if stored { "call 1" } else { "call 2" };
        assert_eq!(again.brief(), (status, expected, stored));
    }
}

#[tokio::test(start_paused = true)]
async fn nor_are_event_streams_and_refusals_from_further_in() {
    let events = Inner::new(|_, _, _| {
        let kind = HeaderValue::from_static("Text/Event-Stream ; charset=utf-8");
        Response::builder().header(CONTENT_TYPE, kind).body(Script::from("data: 1")).unwrap()
    });
    let refused = Inner::new(|_, _, _| {
        let error = crate::testing::bulkhead_full("db");
        let mut response = Response::new(Script::from("a separate answer"));
        Refusal::mark(&mut response, error);
        response
    });
    for inner in [events, refused] {
        let layer = layer();
        for _ in 0..2 {
            assert!(!send(&layer, &inner, post("a", "7")).await.replayed());
        }
        assert_eq!(inner.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_closure_decides_what_is_stored() {
    let (layer, inner) = (layer().keep(|head| head.status == 503), Inner::counting(503));
    send(&layer, &inner, post("a", "7")).await;
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (503, "call 1", true));
    let inner = Inner::counting(200);
    send(&layer, &inner, post("b", "7")).await;
    assert_eq!(send(&layer, &inner, post("b", "7")).await.brief(), (200, "call 2", false));
}

#[tokio::test(start_paused = true)]
async fn the_key_of_a_response_that_is_not_stored_is_left_as_configured() {
    let config = IdempotencyKeyLayer::config().failed_calls(Leave::UntilLeaseEnds);
    let (layer, inner) = (with(config), Inner::counting(500));
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (500, "call 1", false));
    let got = send(&layer, &inner, post("a", "7")).await;
    got.is_problem(409, "key-in-flight");
    assert_eq!(got.headers["retry-after"], "1");
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (500, "call 2", false));
}

/// The error type of the inner service stays, and the layer does not store its errors.
#[tokio::test(start_paused = true)]
async fn an_error_of_the_inner_service_is_passed_on_and_not_stored() {
    #[derive(Debug, PartialEq)]
    struct Broken(u32);
    let mut calls = 0;
    let calls = Arc::new(Mutex::new(move || {
        calls += 1;
        calls
    }));
    let layer = layer();
    let service = layer.layer(tower::service_fn(move |_: Request<Script>| {
        let n = (calls.lock().unwrap())();
        std::future::ready(if n < 3 { Err(Broken(n)) } else { Ok(Response::new("done".into())) })
    }));
    for n in 1..3 {
        assert_eq!(service.clone().oneshot(post("a", "7")).await.unwrap_err(), Broken(n));
    }
    for replayed in [false, true] {
        let response = service.clone().oneshot(post("a", "7")).await.unwrap();
        assert_eq!(read(response).await.brief(), (200, "done", replayed));
    }
    assert_eq!(layer.handle().stats().failed, 2);
}

/// The client disconnects before its response was read to the end: the handler continues on its own
/// task.
#[tokio::test(start_paused = true)]
async fn a_detached_handler_is_not_stopped_by_a_client_that_hangs_up() {
    let layer = with(IdempotencyKeyLayer::config()).detached();
    let inner = Inner::counting(201).held();
    let mut first = Box::pin(send(&layer, &inner, post("a", "7")));
    assert!(is_pending(&mut first));
    while inner.calls() == 0 {
        tokio::task::yield_now().await;
    }
    drop(first);
    inner.open();
    while layer.handle().stats().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (201, "call 1", true));
    assert_eq!(inner.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_detached_is_and_its_key_is_free() {
    let (layer, inner) = (layer(), Inner::counting(201).held());
    let mut first = Box::pin(send(&layer, &inner, post("a", "7")));
    assert!(is_pending(&mut first));
    drop(first);
    inner.open();
    assert_eq!(send(&layer, &inner, post("a", "7")).await.brief(), (201, "call 2", false));
}

/// A claim lasts until the response is read: no other call may begin while its body streams.
#[tokio::test(start_paused = true)]
async fn a_key_is_in_flight_until_the_end_of_the_body() {
    struct Endless(Arc<AtomicBool>);
    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame<Infallible> {
            if self.0.load(Ordering::SeqCst) {
                return Poll::Ready(None);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    let (layer, ended) = (layer(), Arc::new(AtomicBool::new(false)));
    let end = ended.clone();
    let service = layer.layer(tower::service_fn(move |_: Request<Script>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(Endless(end.clone()))))
    }));
    let mut first = Box::pin(service.clone().oneshot(post("a", "7")));
    assert!(is_pending(&mut first));
    let status = async || service.clone().oneshot(post("a", "7")).await.unwrap().status().as_u16();
    assert_eq!(status().await, 409);
    ended.store(true, Ordering::SeqCst);
    assert_eq!(status().await, 409, "the first has not seen it yet");
    assert_eq!(first.await.unwrap().status(), 200);
    assert_eq!(status().await, 200);
}
