//! Which answers a retry repeats and a breaker counts.

use std::convert::Infallible;
use std::time::Duration;

use buttress::retry::{self, Backoff, Jitter};
use buttress::{Classify, Clock, Outcome};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tonic::Code;
use tonic::body::Body;
use tonic_health::pb::health_client::HealthClient;
use tower::{Service, ServiceBuilder, ServiceExt};

use super::{Shop, ms, plain, repeatable};
use crate::grpc::{GrpcLayerExt, RespondGrpc, ends_in_trailers};
use crate::{ByStatus, ReplayBody, ReplayLayer, RetryableStatus, testing};

type Answer = Result<Response<String>, Infallible>;

/// A response with a code, and with pushback.
fn pushed(code: u8, pushback: &str) -> Answer {
    let mut answer = testing::grpc(code).unwrap();
    answer.headers_mut().insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
    Ok(answer)
}

#[test]
fn a_server_that_pushes_back_decides_whether_the_call_is_repeated() {
    let judge = |answer: &Answer| RetryableStatus::route().classify(answer);
    for code in 0..=16 {
        let repeated = !matches!(code, 0 | 4);
        let expected = if repeated { Outcome::Failure } else { Outcome::Success };
        assert_eq!(judge(&pushed(code, "70")), expected, "{code}");
        for never in ["-1", "soon", ""] {
            assert_eq!(judge(&pushed(code, never)), Outcome::Ignored, "{code} {never:?}");
        }
    }
    let hint = |answer: Answer| RetryableStatus::route().retry_after(&answer);
    assert_eq!(hint(pushed(8, "70")), Some(ms(70)));
    assert_eq!(hint(pushed(8, "-1")), None);
    let mut both = pushed(14, "70").unwrap();
    both.headers_mut().insert("retry-after", "1".parse().unwrap());
    assert_eq!(hint(Ok(both)), Some(ms(70)), "the exact one");
}

#[test]
fn deadline_exceeded_is_not_repeated_whatever_the_rule_says() {
    let all = RetryableStatus::route().grpc_failures(|_| true);
    assert_eq!(all.classify(&testing::grpc(4)), Outcome::Success);
    assert_eq!(all.classify(&testing::grpc(13)), Outcome::Failure);
    // The time limit of one attempt is not the deadline of the call.
    let attempt: Answer = Ok(RespondGrpc.response(&testing::timed_out()));
    assert_eq!(RetryableStatus::route().classify(&attempt), Outcome::Failure);
}

/// Asks with up to three attempts that wait for 20 ms. Returns the code and the time in milliseconds.
async fn ask(shop: &Shop, service: &str) -> (Code, u128) {
    let backoff = Backoff::fixed(ms(20)).jitter(Jitter::None);
    let retry = retry::Config::new().attempts(3).backoff(backoff).build().unwrap();
    let stack = ServiceBuilder::new()
        .layer(ReplayLayer::default())
        .layer(retry.grpc())
        .map_request(|request: Request<ReplayBody<Body>>| request.map(Body::new))
        .service(plain(shop).await);
    let clock = Clock::default();
    let began = clock.now();
    let result = HealthClient::new(stack).check(repeatable(service)).await;
    let code = result.map_or_else(|status| status.code(), |_| Code::Ok);
    (code, clock.now().duration_since(began).as_millis())
}

#[tokio::test(start_paused = true)]
async fn a_call_is_repeated_as_often_and_as_late_as_the_server_asks() {
    for (service, code, took, requests) in [
        ("first: 14", Code::Ok, 20, 2),
        ("14", Code::Unavailable, 40, 3),
        ("first: 14 pushback 500", Code::Ok, 500, 2),
        // The wait of the retry is longer.
        ("first: 14 pushback 5", Code::Ok, 20, 2),
        ("first: 14 pushback 0", Code::Ok, 20, 2),
        ("first: 14 pushback -1", Code::Unavailable, 0, 1),
        ("first: 14 pushback soon", Code::Unavailable, 0, 1),
        ("first: 8", Code::ResourceExhausted, 0, 1),
        ("first: 8 pushback 70", Code::Ok, 70, 2),
        ("first: 4", Code::DeadlineExceeded, 0, 1),
        ("first: 4 pushback 70", Code::DeadlineExceeded, 0, 1),
        ("first: 13", Code::Internal, 0, 1),
    ] {
        let shop = Shop::default();
        assert_eq!(ask(&shop, service).await, (code, took), "{service}");
        assert_eq!(shop.requests(), requests, "{service}");
    }
}

/// The message `HealthCheckRequest { service }` in a frame of gRPC.
fn frame(service: &str) -> Bytes {
    let length = u8::try_from(service.len()).unwrap();
    let head = [0, 0, 0, 0, length + 2, 0x0a, length];
    [&head[..], service.as_bytes()].concat().into()
}

#[tokio::test(start_paused = true)]
async fn a_status_in_trailers_is_judged_by_code_that_reads_the_body() {
    let shop = Shop::default();
    let channel = plain(&shop).await;
    let call = async |method: &str, service: &str| {
        let request = Request::post(format!("/grpc.health.v1.Health/{method}"))
            .header("content-type", "application/grpc");
        let request = request.body(Body::new(Full::new(frame(service)))).unwrap();
        let mut channel = channel.clone();
        channel.ready().await.unwrap().call(request).await.unwrap()
    };
    for (service, outcome) in
        [("ok", Outcome::Success), ("14", Outcome::Failure), ("5", Outcome::Success)]
    {
        let response = call("Watch", service).await;
        assert!(ends_in_trailers(&response));
        let collected = response.into_body().collect().await.unwrap();
        let trailers = collected.trailers().unwrap();
        assert_eq!(ByStatus::route().judge_trailers(trailers), outcome, "{service}");
    }
    // A call that fails without a message has its status in the head.
    let response = call("Check", "14").await;
    assert!(!ends_in_trailers(&response));
    assert_eq!(ByStatus::route().classify(&Ok::<_, Infallible>(response)), Outcome::Failure);
}

#[test]
fn a_rule_for_codes_judges_trailers_too() {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "8".parse().unwrap());
    assert_eq!(ByStatus::route().judge_trailers(&trailers), Outcome::Success);
    let exhausted = ByStatus::client().grpc_failures(|code| code == 8);
    assert_eq!(exhausted.judge_trailers(&trailers), Outcome::Failure);
    trailers.clear();
    assert_eq!(ByStatus::route().judge_trailers(&trailers), Outcome::Failure, "no code is UNKNOWN");
}

#[test]
fn a_refusal_of_a_layer_is_known_by_its_mark() {
    let refused: Answer = Ok(RespondGrpc.response(&testing::circuit_open()));
    assert_eq!(ByStatus::route().classify(&refused), Outcome::Ignored);
    assert_eq!(RetryableStatus::route().classify(&refused), Outcome::Ignored);
    let refused: Answer = Ok(RespondGrpc.response(&testing::rate_limited()));
    assert_eq!(RetryableStatus::route().classify(&refused), Outcome::Failure);
    assert_eq!(RetryableStatus::route().retry_after(&refused), Some(Duration::from_millis(2_500)));
}
