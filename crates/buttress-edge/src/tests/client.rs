//! A client between code that calls it and services that write bytes, in memory.

mod bodies;
mod errors;

use std::time::Duration;

use buttress::circuit_breaker;
use buttress::context::{Context, CorrelationId};
use buttress::retry::{self, Backoff, Jitter};
use buttress::time_limit::TimeLimitLayer;
use buttress::{AsRefusal, CircuitState, Clock, ErrorKind, Rng};
use http::Request;
use tokio::task::JoinHandle;
use tower::{BoxError, Service};

use super::support::{Backend, Network, field};
use crate::client::{ClientError, ClientErrorKind, Config, ServiceClient};
use crate::forward::Connector;
use crate::{Body, RouteStats, Upstream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]";
const UNAVAILABLE: &str = "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n";
const SECOND: Duration = Duration::from_secs(1);

/// Waits of a second between attempts.
fn plain() -> Config {
    let backoff = Backoff::fixed(SECOND).jitter(Jitter::None);
    let retry = retry::Config::new().attempts(3).backoff(backoff).rng(Rng::seeded(1));
    Config::new().retry(retry)
}

fn client(config: Config, endpoints: &[&str]) -> (ServiceClient, Network) {
    let network = Network::default();
    let connector = Connector::new(SECOND, Clock::default()).memory(network.clone());
    let upstream = Upstream::fixed(endpoints).unwrap();
    let client = ServiceClient::connecting("orders:8001", upstream, config, connector).unwrap();
    (client, network)
}

fn one(config: Config) -> (ServiceClient, Network, Backend) {
    let (client, network) = client(config, &["http://orders:8001/v1"]);
    let backend = network.listen("orders:8001");
    (client, network, backend)
}

/// Answers the next request on a new connection, and returns its head.
async fn answer(backend: &mut Backend, text: &str) -> String {
    let (mut connection, head) = backend.accept_request().await;
    connection.write(text).await;
    head
}

fn spawn<T: Send + 'static>(
    call: impl Future<Output = Result<T, ClientError>> + Send + 'static,
) -> JoinHandle<Result<T, ClientError>> {
    tokio::spawn(call)
}

#[tokio::test(start_paused = true)]
async fn edge_6_1_a_path_cannot_leave_the_base() {
    let (client, network, _backend) = one(plain());
    for path in [
        "//evil/x",
        "http://evil/x",
        "/../x",
        "/%2e%2e/x",
        "/a/..",
        "/a//b",
        "/a\\b",
        "/a%2fb",
        "x",
        "@evil/x",
        ":80/x",
        "",
        "/a b",
        "/a?b=c",
        "/a#b",
        "/{id}",
    ] {
        let error = client.get(path).send().await.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::Invalid, "{path:?}: {error}");
        assert!(error.is_unsent());
    }
    for value in ["..", ".", "a/b", "", "a;b", "\0", "a\\b"] {
        let result = client.get("/orders/{id}").param("id", value).send().await;
        match result {
            Err(error) if error.kind() == ClientErrorKind::Invalid => {
                assert!(error.to_string().starts_with("GET orders:8001/orders/{id}: "), "{error}");
            }
            other => panic!("{value:?}: {other:?}"),
        }
    }
    for target in ["http://evil/x", "//evil/x", "/../x"] {
        let request = Request::get(target).body(Body::empty()).unwrap();
        let error = client.clone().call(request).await.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::Invalid, "{target}");
    }
    assert!(network.dialled().is_empty());
    assert_eq!(client.stats(), RouteStats::default());
}

#[tokio::test(start_paused = true)]
async fn edge_6_1_parameters_and_queries_are_encoded_below_the_base() {
    let (client, _network, mut backend) = one(plain());
    let call = client.get("/orders/{id}/{id}").param("id", "a b%").param("id", 7);
    let call = spawn(call.query("q", "x&y=z").query("r", "ä").send());
    let head = answer(&mut backend, OK).await;
    assert!(
        head.starts_with("GET /v1/orders/a%20b%25/7?q=x%26y%3Dz&r=%C3%A4 HTTP/1.1\r\n"),
        "{head}"
    );
    assert_eq!(field(&head, "host"), Some("orders:8001"));
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn edge_6_2_correlation_trace_and_the_time_that_is_left_go_out() {
    let (client, _network, mut backend) = one(plain().time_limit(12 * SECOND));
    let context = Context::new().with_correlation("order-7".parse::<CorrelationId>().unwrap());
    let in_4_s = Clock::default().now() + 4 * SECOND;
    for (context, left) in [(context.clone(), "12000"), (context.with_deadline(in_4_s), "4000")] {
        let call = spawn(context.scope(client.get("/").send()));
        let head = answer(&mut backend, OK).await;
        assert_eq!(field(&head, "x-correlation-id"), Some("order-7"));
        assert_eq!(field(&head, "x-request-timeout-ms"), Some(left));
        assert_eq!(call.await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn edge_6_3_a_post_is_repeated_with_a_key_only() {
    let (client, network, mut backend) = one(plain());
    let call = spawn(client.post("/").body("hello").send());
    answer(&mut backend, UNAVAILABLE).await;
    assert_eq!(call.await.unwrap().unwrap().status(), 503);
    assert_eq!(network.dialled().len(), 1);

    let call = spawn(client.post("/").body("hello").idempotency_key("7").send());
    for text in [UNAVAILABLE, "", OK] {
        let head = answer(&mut backend, text).await;
        assert_eq!(field(&head, "idempotency-key"), Some("7"));
    }
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
    let stats = client.stats();
    // The first answer was not read to its end, the second one neither.
    assert_eq!((stats.begun, stats.failed, stats.refused.total()), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn edge_6_4_retry_after_is_the_least_wait_up_to_the_deadline() {
    let (client, _network, mut backend) = one(plain().time_limit(12 * SECOND));
    let busy = |seconds: u32| {
        format!("HTTP/1.1 503 x\r\nRetry-After: {seconds}\r\nContent-Length: 0\r\n\r\n")
    };
    let (clock, start) = (Clock::default(), Clock::default().now());
    let call = spawn(client.get("/").send());
    answer(&mut backend, &busy(8)).await;
    answer(&mut backend, OK).await;
    assert_eq!(clock.now() - start, 8 * SECOND);
    assert_eq!(call.await.unwrap().unwrap().status(), 200);

    // It would pass the deadline: the answer comes immediately.
    let start = clock.now();
    let call = spawn(client.get("/").send());
    answer(&mut backend, &busy(13)).await;
    assert_eq!(call.await.unwrap().unwrap().status(), 503);
    assert_eq!(clock.now(), start);
}

#[tokio::test(start_paused = true)]
async fn edge_6_5_errors_tell_what_was_sent_and_name_no_value() {
    let secret = "s3cret";
    let send = |client: &ServiceClient| {
        let call = client.post("/orders/{id}").param("id", secret).query("token", secret);
        spawn(call.header("authorization", secret).body(secret).bytes())
    };
    let check = |error: ClientError, kind, is_unsent| {
        let text = format!("{error} {error:?}");
        assert!(error.to_string().starts_with("POST orders:8001/orders/{id}: "), "{text}");
        assert!(!text.contains(secret), "{text}");
        assert_eq!((error.kind(), error.is_unsent()), (kind, is_unsent), "{text}");
    };
    // Nothing listens.
    let (client, network) = client(plain().no_retry(), &["http://orders:8001"]);
    check(send(&client).await.unwrap().unwrap_err(), ClientErrorKind::Unsent, true);
    let mut backend = network.listen("orders:8001");
    for (text, kind) in [
        ("", ClientErrorKind::Lost),
        ("SSH-2.0\r\n\r\n", ClientErrorKind::Lost),
        ("HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n", ClientErrorKind::Status),
        ("HTTP/1.1 302 x\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", ClientErrorKind::Status),
        ("HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\nx", ClientErrorKind::Body),
    ] {
        let call = send(&client);
        answer(&mut backend, text).await;
        check(call.await.unwrap().unwrap_err(), kind, false);
    }
    // No answer: the attempt limit.
    let call = send(&client);
    let _silent = backend.accept().await;
    check(call.await.unwrap().unwrap_err(), ClientErrorKind::Lost, false);
    // The circuit.
    client.circuit().unwrap().force_open();
    let error = send(&client).await.unwrap().unwrap_err();
    assert_eq!(error.as_refusal().unwrap().kind(), ErrorKind::CircuitOpen);
    check(error, ClientErrorKind::Refused, true);
}

#[tokio::test(start_paused = true)]
async fn edge_6_5_an_error_after_an_earlier_attempt_is_not_unsent() {
    let (client, network, mut backend) = one(plain());
    let call = spawn(client.put("/").body("x").send());
    answer(&mut backend, "").await;
    drop(backend);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.is_unsent()), (ClientErrorKind::Unsent, false), "{error}");
    assert_eq!(network.dialled().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn edge_6_5_a_body_that_is_too_long_is_an_error() {
    let (client, _network, mut backend) = one(plain().max_body(1));
    let call = spawn(client.get("/").bytes());
    answer(&mut backend, OK).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Body);
    assert_eq!(error.to_string(), "GET orders:8001/: the answer is longer than 1 bytes");
}

#[cfg(feature = "json")]
#[tokio::test(start_paused = true)]
async fn edge_6_6_a_404_is_an_error_of_json_and_an_answer_of_call() {
    let (client, _network, mut backend) = one(plain());
    let missing = "HTTP/1.1 404 x\r\nContent-Length: 2\r\n\r\n[]";
    let call = spawn(client.get("/").json::<Vec<u32>>());
    answer(&mut backend, missing).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.status().unwrap(), 404);

    let request = Request::get("/").body(Body::empty()).unwrap();
    let call = spawn(client.clone().call(request));
    answer(&mut backend, missing).await;
    assert_eq!(call.await.unwrap().unwrap().status(), 404);

    let call = spawn(client.post("/").json_body(&[1, 2]).json::<Vec<u32>>());
    let (mut connection, head) = backend.accept_request().await;
    assert_eq!(field(&head, "content-type"), Some("application/json"));
    assert_eq!(connection.read_bytes(5).await, "[1,2]");
    connection.write(OK).await;
    assert!(call.await.unwrap().unwrap().is_empty());

    let call = spawn(client.get("/").json::<u32>());
    answer(&mut backend, OK).await;
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ClientErrorKind::Decode);
}

#[tokio::test(start_paused = true)]
async fn edge_6_7_the_circuit_counts_a_request_once() {
    let circuit = circuit_breaker::Config::new().consecutive_failures(2);
    let (client, network, mut backend) = one(plain().circuit_breaker(circuit));
    for state in [CircuitState::Closed, CircuitState::Open] {
        let call = spawn(client.get("/").send());
        for _ in 0..3 {
            answer(&mut backend, UNAVAILABLE).await;
        }
        assert_eq!(call.await.unwrap().unwrap().status(), 503);
        assert_eq!(client.circuit().unwrap().state(), state);
    }
    let error = client.get("/").send().await.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Refused);
    assert_eq!(network.dialled().len(), 6);
    assert_eq!(client.stats().refused.circuit_open, 1);
}

#[tokio::test(start_paused = true)]
async fn edge_6_8_redirects_are_not_followed() {
    let (client, network, mut backend) = one(plain());
    let call = spawn(client.get("/").send());
    answer(&mut backend, "HTTP/1.1 302 x\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(call.await.unwrap().unwrap().headers()["location"], "http://evil/");
    assert_eq!(network.dialled(), ["orders:8001"]);
}

#[tokio::test(start_paused = true)]
async fn edge_6_9_dropping_a_request_or_a_client_closes_nothing_that_is_shared() {
    let (client, network, mut backend) = one(plain());
    let call = spawn(client.clone().get("/").bytes());
    let (mut kept, _) = backend.accept_request().await;
    kept.write(OK).await;
    call.await.unwrap().unwrap();
    let call = spawn(client.get("/slow").send());
    kept.read_head().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    let call = spawn(client.get("/").bytes());
    answer(&mut backend, OK).await;
    call.await.unwrap().unwrap();
    assert_eq!(network.dialled().len(), 2);
    let stats = client.stats();
    assert_eq!((stats.begun, stats.answered, stats.abandoned), (3, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_another_status_is_read_and_its_connection_is_used_again() {
    let (client, network, mut backend) = one(plain());
    let call = spawn(client.clone().get("/").bytes());
    let (mut kept, _) = backend.accept_request().await;
    kept.write("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone").await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.status().unwrap().as_u16(), 404);
    let call = spawn(client.clone().get("/").bytes());
    kept.read_head().await;
    kept.write(OK).await;
    call.await.unwrap().unwrap();
    assert_eq!(network.dialled().len(), 1);
    let stats = client.stats();
    assert_eq!((stats.begun, stats.answered, stats.abandoned), (2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_unsent_request_goes_to_another_endpoint() {
    let (client, network) = client(plain().no_retry(), &["http://a", "http://b"]);
    let mut backend = network.listen("b");
    for _ in 0..8 {
        let call = spawn(client.post("/").body("x").send());
        answer(&mut backend, OK).await;
        assert_eq!(call.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(client.endpoints().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn layers_stand_around_the_preset() {
    let (client, _network, mut backend) = one(plain());
    let limited = client.clone().layer(TimeLimitLayer::after(SECOND));
    let call = spawn(limited.get("/{id}").param("id", 1).bytes());
    let _silent = backend.accept().await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.as_refusal().unwrap().kind(), ErrorKind::TimedOut);
    assert!(error.to_string().starts_with("GET orders:8001/{id}: "), "{error}");

    // Over `BoxError`, inside of a task.
    let boxed = client.layer(tower::util::MapErrLayer::new(BoxError::from));
    let boxed = boxed.layer(TimeLimitLayer::after(SECOND));
    let call = tokio::spawn(async move { boxed.get("/").bytes().await });
    // The wait before the next attempt takes all of the time.
    answer(&mut backend, UNAVAILABLE).await;
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.as_refusal().unwrap().kind(), ErrorKind::TimedOut);
}

#[test]
fn a_wrong_configuration_names_its_field() {
    let zero = Duration::ZERO;
    for (config, field) in [
        (Config::new().time_limit(zero), "time-limit"),
        (Config::new().attempt_limit(zero), "attempt-limit"),
        (Config::new().connect_limit(6 * SECOND), "connect-limit"),
        (Config::new().retry(retry::Config::new().attempts(0)), "retry.attempts"),
        (
            Config::new().circuit_breaker(circuit_breaker::Config::new().consecutive_failures(0)),
            "circuit-breaker.consecutive-failures",
        ),
    ] {
        assert_eq!(ServiceClient::with("http://a", config).unwrap_err().field(), field);
    }
    for url in ["", "a", "ftp://a", "http://u@a", "http://a?b"] {
        assert_eq!(ServiceClient::new(url).unwrap_err().field(), "url", "{url}");
    }
}
