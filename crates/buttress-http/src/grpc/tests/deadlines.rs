//! One deadline for a call and all of its attempts.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use buttress::balance::{self, Balance};
use buttress::context::Context;
use buttress::retry::{self, Backoff, Jitter, RetryLayer};
use buttress::time_limit::TimeLimitLayer;
use buttress::{CircuitState, Clock, ErrorKind, bulkhead, circuit_breaker};
use http::{Request, Response};
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::StdError;
use tonic::transport::Channel;
use tonic_health::pb::health_client::HealthClient;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

use super::{Shop, ask, ms, plain, repeatable};
use crate::context::{ContextLayer, Trust};
use crate::grpc::{DeadlineLayer, GrpcLayerExt};
use crate::{Refusal, ReplayBody, ReplayLayer};

fn retry(wait: u64) -> RetryLayer {
    let backoff = Backoff::fixed(ms(wait)).jitter(Jitter::None);
    retry::Config::new().attempts(3).backoff(backoff).build().unwrap()
}

/// The stack of the guide.
fn stack(
    channel: Channel,
    deadline: DeadlineLayer,
    wait: u64,
) -> impl Service<Request<Body>, Response = Response<Body>, Error: Into<StdError>, Future: Send>
+ Clone
+ Send
+ 'static {
    ServiceBuilder::new()
        .layer(deadline)
        .layer(ReplayLayer::default())
        .layer(retry(wait).grpc())
        .layer(ContextLayer::client())
        .map_request(|request: Request<ReplayBody<Body>>| request.map(Body::new))
        .service(channel)
}

/// A shop, and a client of it through the stack of the guide.
async fn shop_over(
    deadline: DeadlineLayer,
    wait: u64,
) -> (
    Shop,
    HealthClient<
        impl Service<Request<Body>, Response = Response<Body>, Error: Into<StdError>, Future: Send>
        + Clone
        + Send
        + 'static,
    >,
) {
    let shop = Shop::default();
    let client = HealthClient::new(stack(plain(&shop).await, deadline, wait));
    (shop, client)
}

fn within_250_ms<T>(mut request: tonic::Request<T>) -> tonic::Request<T> {
    request.set_timeout(ms(250));
    request
}

/// The time that `future` takes, and its output.
async fn timed<F: Future>(future: F) -> (u128, F::Output) {
    let clock = Clock::default();
    let began = clock.now();
    let output = future.await;
    (clock.now().duration_since(began).as_millis(), output)
}

/// Regression: three attempts with a `grpc-timeout` of 250 ms took 796 ms, because each attempt had the whole time.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_for_the_whole_call_with_its_attempts() {
    let (shop, mut client) = shop_over(DeadlineLayer::new(), 20).await;
    let request = within_250_ms(repeatable("stuck"));
    let (took, result) = timed(client.check(request)).await;
    assert_eq!(result.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!((took, shop.requests()), (250, 1));
    // Each attempt fails after 100 ms, and the wait is 20 ms: the third would end after the deadline.
    let request = within_250_ms(repeatable("slow: 14"));
    let (took, result) = timed(client.check(request)).await;
    assert_eq!(result.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!((took, shop.requests()), (250, 4));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_told_the_time_that_is_left() {
    let (shop, mut client) = shop_over(DeadlineLayer::new(), 20).await;
    let request = within_250_ms(repeatable("slow: first: 14"));
    let (took, result) = timed(client.check(request)).await;
    assert_eq!(result.unwrap().get_ref().status, 1);
    assert_eq!(took, 220);
    assert_eq!(shop.timeouts(), ["250000u", "130000u"]);
}

#[tokio::test(start_paused = true)]
async fn the_longest_time_of_a_call_is_told_too() {
    let (shop, mut client) = shop_over(DeadlineLayer::new().at_most(ms(400)), 20).await;
    let (took, result) = timed(client.check(ask("stuck"))).await;
    assert_eq!(result.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!((took, shop.timeouts()), (400, vec!["400000u".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_deadline_is_not_made_and_the_last_failure_is_returned() {
    let (shop, mut client) = shop_over(DeadlineLayer::new(), 300).await;
    for (text, code) in [("14", Code::Unavailable), ("14 pushback 250", Code::Unavailable)] {
        let request = within_250_ms(repeatable(text));
        let (took, result) = timed(client.check(request)).await;
        assert_eq!((took, result.unwrap_err().code()), (0, code));
    }
    assert_eq!(shop.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_begins_before_the_deadline_or_not_at_all() {
    let (shop, mut client) = shop_over(DeadlineLayer::new(), 20).await;
    let request = within_250_ms(ask("ok"));
    let mut stream = client.watch(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    assert_eq!(stream.message().await.unwrap(), None);
    let mut request = ask("ok");
    request.metadata_mut().insert("grpc-timeout", "0n".parse().unwrap());
    assert_eq!(client.watch(request).await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(shop.requests(), 1);
}

fn request(timeouts: &[&str]) -> Request<()> {
    let mut request = Request::new(());
    for timeout in timeouts {
        request.headers_mut().append("grpc-timeout", timeout.parse().unwrap());
    }
    request
}

/// A service that never answers.
async fn silent(_: Request<()>) -> Result<Response<String>, BoxError> {
    pending().await
}

#[tokio::test(start_paused = true)]
async fn a_valid_grpc_timeout_is_the_deadline_and_a_malformed_one_is_none() {
    let longest = 400_000_000;
    let deadline = DeadlineLayer::new().at_most(ms(longest));
    let client = ServiceBuilder::new().layer(deadline).service_fn(silent);
    for (timeouts, expected) in [
        (&["3000000n"][..], 3),
        (&["5000u"], 5),
        (&["250m"], 250),
        (&["99999999m"], 99_999_999),
        (&["7S"], 7_000),
        (&["2M"], 120_000),
        (&["1H"], 3_600_000),
        (&["99999999H"], longest),
        (&["123456789m"], longest),
        (&["250"], longest),
        (&["m"], longest),
        (&["-1m"], longest),
        (&["1s"], longest),
        (&["1 m"], longest),
        (&[""], longest),
        (&["250m", "250m"], longest),
        (&[], longest),
    ] {
        let (took, response) = timed(client.clone().oneshot(request(timeouts))).await;
        assert_eq!(response.unwrap().headers()["grpc-status"], "4", "{timeouts:?}");
        assert_eq!(took, u128::from(expected), "{timeouts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_earliest_of_all_deadlines_holds_and_is_reported() {
    let now = Clock::default().now();
    let context = |at: Option<u64>| match at {
        Some(at) => Context::new().with_deadline(now + ms(at)),
        None => Context::new(),
    };
    for (at, timeouts, expected) in [(Some(50), &["70m"][..], 50), (Some(900), &["70m"], 70)] {
        // Time stands still between the two, so both count from `now`.
        let client = ServiceBuilder::new().layer(DeadlineLayer::new()).service_fn(silent);
        let clock = Clock::default();
        let began = clock.now();
        let context = context(at.map(|at| at + (began - now).as_millis() as u64));
        let call = client.oneshot(request(timeouts));
        let (took, response) = timed(context.scope(call)).await;
        let response = response.unwrap();
        let error = Refusal::of(&response).unwrap().error();
        assert_eq!((took, error.kind()), (expected, ErrorKind::DeadlineExceeded));
        assert_eq!(error.time_limit(), Some(ms(expected as u64)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_time_is_not_made() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let client = ServiceBuilder::new().layer(DeadlineLayer::new()).service_fn(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok::<_, Infallible>(Response::new(String::new())))
    });
    let late = client.clone().oneshot(request(&["0m"])).await.unwrap();
    assert_eq!(late.headers()["grpc-status"], "4");
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    let served = client.oneshot(request(&["1m"])).await.unwrap();
    assert!(!served.headers().contains_key("grpc-status"));
}

/// A service that answers after 100 ms with a response or an error.
async fn at_100(request: Request<()>) -> Result<Response<String>, BoxError> {
    Clock::default().sleep(ms(100)).await;
    let fails = request.uri().path() == "/fail";
    if fails { Err("reset".into()) } else { Ok(Response::new(String::from("here"))) }
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_an_answer_wins_and_an_error_does_not() {
    let client = ServiceBuilder::new().layer(DeadlineLayer::new()).service_fn(at_100);
    let ask = async |path: &str, timeout: &str| {
        let mut request = request(&[timeout]);
        *request.uri_mut() = path.parse().unwrap();
        client.clone().oneshot(request).await
    };
    assert_eq!(ask("/", "100m").await.unwrap().body(), "here");
    assert_eq!(ask("/", "99m").await.unwrap().headers()["grpc-status"], "4");
    assert_eq!(ask("/fail", "100m").await.unwrap().headers()["grpc-status"], "4");
    assert_eq!(ask("/fail", "101m").await.unwrap().headers()["grpc-status"], "4");
    assert_eq!(ask("/fail", "102m").await.unwrap_err().to_string(), "reset");
}

/// Regression: a call that waited for an endpoint until its deadline was UNAVAILABLE, and one that waited for a permit was
/// RESOURCE_EXHAUSTED.
#[tokio::test(start_paused = true)]
async fn a_wait_further_in_that_the_deadline_ends_is_a_passed_deadline() {
    let code = |answer: Result<Response<String>, BoxError>| {
        answer.unwrap().headers()["grpc-status"].to_str().unwrap().to_owned()
    };
    let none = || balance::Endpoints::<tower::util::BoxCloneSyncService<_, _, BoxError>>::new();
    let balance = Balance::new(none(), balance::Config::new()).unwrap().grpc();
    let client = ServiceBuilder::new().layer(DeadlineLayer::new()).service(balance);
    let (took, answer) = timed(client.clone().oneshot(request(&["200m"]))).await;
    assert_eq!((took, &*code(answer)), (200, "4"));
    let (took, answer) = timed(client.oneshot(request(&["1100m"]))).await;
    assert_eq!((took, &*code(answer)), (1_000, "14"));

    let bulkhead = bulkhead::Config::new().max_concurrent(1).queue(1).max_wait(ms(500));
    let bulkhead = bulkhead.build().unwrap().queued().grpc();
    let _taken = bulkhead.handle().try_acquire().unwrap();
    let client = ServiceBuilder::new().layer(DeadlineLayer::new()).layer(bulkhead);
    let client = client.service(service_fn(at_100));
    let (took, answer) = timed(client.clone().oneshot(request(&["200m"]))).await;
    assert_eq!((took, &*code(answer)), (200, "4"));
    let (took, answer) = timed(client.oneshot(request(&["600m"]))).await;
    assert_eq!((took, &*code(answer)), (500, "8"));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_drops_the_call_and_so_does_the_deadline() {
    let running = Arc::new(());
    let held = running.clone();
    let mut client = ServiceBuilder::new().layer(DeadlineLayer::new()).service(service_fn(
        move |_: Request<()>| {
            let held = held.clone();
            async move {
                let _held = held;
                pending::<()>().await;
                Ok::<_, Infallible>(Response::new(String::new()))
            }
        },
    ));
    let idle = Arc::strong_count(&running);
    let mut call = Box::pin(client.call(request(&["5m"])));
    poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
    assert_eq!(Arc::strong_count(&running), idle + 1);
    drop(call);
    assert_eq!(Arc::strong_count(&running), idle);
    let mut call = Box::pin(client.call(request(&["5m"])));
    call.as_mut().await.unwrap();
    assert_eq!(Arc::strong_count(&running), idle, "the future still lives");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_inside_of_a_retry_is_not_repeated() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let client = ServiceBuilder::new()
        .layer(retry(1).grpc())
        .layer(DeadlineLayer::new())
        .service_fn(move |_: Request<()>| {
            counted.fetch_add(1, Ordering::Relaxed);
            pending::<Result<Response<String>, Infallible>>()
        });
    let mut request = request(&["5m"]);
    request.extensions_mut().insert(crate::Repeatable);
    let response = client.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "4");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_passes_the_rest_of_the_callers_time_on() {
    let shop = Shop::default();
    let next = stack(plain(&shop).await, DeadlineLayer::new(), 20);
    let front = ServiceBuilder::new()
        .layer(ContextLayer::server(Trust::All).grpc())
        .layer(TimeLimitLayer::after(ms(5_000)).grpc())
        .service_fn(move |_: Request<()>| {
            let next = next.clone();
            async move {
                Clock::default().sleep(ms(30)).await;
                let status = HealthClient::new(next).check(ask("stuck")).await.unwrap_err();
                Ok::<_, Infallible>(status.into_http::<Body>())
            }
        });
    let (took, response) = timed(front.clone().oneshot(request(&["250m"]))).await;
    assert_eq!(response.unwrap().headers()["grpc-status"], "4");
    assert_eq!((took, shop.timeouts()), (250, vec!["220000u".to_owned()]));
    let late = front.oneshot(request(&["0m"])).await.unwrap();
    assert_eq!(late.headers()["grpc-status"], "4");
    assert_eq!(shop.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_inside_of_a_breaker_makes_it_count_a_passed_deadline() {
    let shop = Shop::default();
    let breaker = circuit_breaker::Config::new().consecutive_failures(1).build().unwrap();
    let circuit = breaker.handle();
    let stack = ServiceBuilder::new()
        .layer(DeadlineLayer::new())
        .layer(breaker.grpc())
        .layer(ContextLayer::client())
        .layer(TimeLimitLayer::after(ms(5_000)).grpc())
        .service(plain(&shop).await);
    let request = within_250_ms(ask("stuck"));
    let (took, result) = timed(HealthClient::new(stack).check(request)).await;
    assert_eq!((took, result.unwrap_err().code()), (250, Code::DeadlineExceeded));
    assert_eq!(circuit.state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "`grpc::DeadlineFuture` polled after completion")]
async fn a_deadline_that_is_polled_again_panics_with_its_name() {
    let mut client = ServiceBuilder::new().layer(DeadlineLayer::new()).service_fn(silent);
    let mut call = Box::pin(client.call(request(&["5m"])));
    call.as_mut().await.unwrap();
    let _ = call.await;
}
