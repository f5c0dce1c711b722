//! A retry over streaming bodies.

use std::time::Duration;

use buttress::retry::{Backoff, Config, RetryLayer};
use http::{Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::{Attempt, HttpLayerExt};

/// The number of each attempt, and the part of the body that the service read.
type Seen = Arc<std::sync::Mutex<Vec<(u32, String)>>>;

/// Sends `request` to a service that reads up to `frames` frames, answers 503 twice, and then reads
/// everything and answers 200.
async fn send<B>(request: Request<B>, frames: usize, cap: usize) -> (StatusCode, Vec<(u32, String)>)
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    let seen = Seen::default();
    let service = service_fn(|request: Request<ReplayBody<B>>| {
        let seen = seen.clone();
        async move {
            let Some(&Attempt(attempt)) = request.extensions().get() else {
                panic!("a request without the number of its attempt");
            };
            let mut body = request.into_body();
            let mut text = String::new();
            let frames = if attempt < 3 { frames } else { usize::MAX };
            for _ in 0..frames {
                let Some(frame) = body.frame().await else { break };
                text.push_str(std::str::from_utf8(frame?.data_ref().unwrap()).unwrap());
            }
            seen.lock().unwrap().push((attempt, text));
            let status = if attempt < 3 { 503 } else { 200 };
            Ok::<_, BoxError>(Response::builder().status(status).body(()).unwrap())
        }
    });
    let backoff = Backoff::fixed(Duration::from_millis(10));
    let retry = RetryLayer::new(Config::new().attempts(3).backoff(backoff)).unwrap();
    let mut client = ReplayLayer::new(cap).layer(retry.http().layer(service));
    let response = client.ready().await.unwrap().call(request).await.unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (response.status(), seen)
}

fn abcdef(method: &str) -> Request<Script> {
    let body = script([Data("ab"), Data("cd"), Data("ef")]);
    Request::builder().method(method).body(body).unwrap()
}

fn attempts(texts: &[&str]) -> Vec<(u32, String)> {
    (1..).zip(texts.iter().map(|text| (*text).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_put_is_repeated_whole_however_much_was_read_of_it() {
    for (frames, texts) in [
        (usize::MAX, ["abcdef", "abcdef", "abcdef"]),
        (1, ["ab", "ab", "abcdef"]),
        (2, ["abcd", "abcdef", "abcdef"]),
        (0, ["", "", "abcdef"]),
    ] {
        let sent = send(abcdef("PUT"), frames, 6).await;
        assert_eq!(sent, (StatusCode::OK, attempts(&texts)), "{frames} frames");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_gets_one_attempt_and_its_answer_comes_back() {
    let sent = send(abcdef("POST"), usize::MAX, 64).await;
    assert_eq!(sent, (StatusCode::SERVICE_UNAVAILABLE, attempts(&["abcdef"])));
}

#[tokio::test(start_paused = true)]
async fn a_post_with_a_key_is_repeated() {
    let mut request = abcdef("POST");
    request.headers_mut().insert("idempotency-key", "\"k1\"".parse().unwrap());
    let sent = send(request, usize::MAX, 64).await;
    assert_eq!(sent, (StatusCode::OK, attempts(&["abcdef", "abcdef", "abcdef"])));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_outgrew_the_cap_gets_one_attempt_and_its_answer_comes_back() {
    let sent = send(abcdef("PUT"), usize::MAX, 5).await;
    assert_eq!(sent, (StatusCode::SERVICE_UNAVAILABLE, attempts(&["abcdef"])));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_outgrew_the_cap_in_the_second_attempt_gets_two() {
    let sent = send(abcdef("PUT"), 2, 4).await;
    assert_eq!(sent, (StatusCode::SERVICE_UNAVAILABLE, attempts(&["abcd", "abcdef"])));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_announces_more_than_the_cap_gets_one_attempt() {
    let request = Request::put("/").body(Full::new(Bytes::from_static(b"abcdef"))).unwrap();
    // The body is unread, so only its announced size prevents another attempt.
    let sent = send(request, 0, 5).await;
    assert_eq!(sent, (StatusCode::SERVICE_UNAVAILABLE, attempts(&[""])));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_on_to_the_body_does_not_stop_the_next() {
    let lingering = Arc::new(std::sync::Mutex::new(None));
    let service = service_fn(|request: Request<ReplayBody<Script>>| {
        let lingering = lingering.clone();
        async move {
            let attempt = request.extensions().get::<Attempt>().unwrap().0;
            let mut body = request.into_body();
            if attempt == 1 {
                // A connection does the same if the answer comes before it has sent everything.
                assert_eq!(poll(&mut body), data("ab"));
                *lingering.lock().unwrap() = Some(body);
                return Ok::<_, BoxError>(Response::builder().status(503).body(Bytes::new())?);
            }
            Ok(Response::new(body.collect().await?.to_bytes()))
        }
    });
    let mut client = ReplayLayer::default().layer(RetryLayer::default().http().layer(service));
    let response = client.ready().await.unwrap().call(abcdef("PUT")).await.unwrap();
    assert_eq!(response.into_body(), "abcdef");
    let mut lingering = lingering.lock().unwrap().take().unwrap();
    assert_eq!(poll(&mut lingering), error(ReplayError::Displaced));
}
