//! One error of every kind, made by its layer, and responses.

use std::convert::Infallible;
use std::time::Duration;

use buttress::bulkhead::{self, BulkheadLayer, KeyedBulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::gateway::{Decision, Gateway, Route};
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{Classify, Clock, Error, ErrorKind, Outcome};
use http::Response;
use tower::Service;

/// An answer of a service whose errors are `E`.
pub(crate) type Answer<E> = Result<Response<String>, E>;

/// An answer with this status and an empty body.
pub(crate) fn status<E>(status: u16) -> Answer<E> {
    Ok(Response::builder().status(status).body(String::new()).unwrap())
}

/// The answer of a layer further in that refused the call.
pub(crate) fn refused<E>(error: &Error) -> Answer<E> {
    Ok(crate::Respond.response(error))
}

/// The HTTP statuses that `judge` counts as failures.
pub(crate) fn failing_statuses(judge: &impl Classify<Response<String>, Infallible>) -> Vec<u16> {
    let fails = |code: &u16| judge.classify(&status(*code)) == Outcome::Failure;
    (100..1000).filter(fails).collect()
}

/// The gRPC codes that `judge` counts as failures.
pub(crate) fn failing_codes(judge: &impl Classify<Response<String>, Infallible>) -> Vec<u8> {
    (0..=16).filter(|code| judge.classify(&grpc(*code)) == Outcome::Failure).collect()
}

/// Checks the outcome of the answer of each refusal.
pub(crate) fn assert_outcomes<const N: usize>(
    judge: &impl Classify<Response<String>, Infallible>,
    refusals: [(Error, Outcome); N],
) {
    for (error, outcome) in refusals {
        assert_eq!(judge.classify(&refused(&error)), outcome, "{error}");
    }
}

fn of_kind(error: Error, kind: ErrorKind) -> Error {
    assert_eq!(error.kind(), kind);
    error
}

pub(crate) fn bulkhead_full(name: &'static str) -> Error {
    let config = bulkhead::Config::new().name(name).max_concurrent(1);
    let handle = BulkheadLayer::new(config).unwrap().handle();
    let _busy = handle.try_acquire().unwrap();
    of_kind(handle.try_acquire().unwrap_err(), ErrorKind::BulkheadFull)
}

/// Open for another 1.5 seconds.
pub(crate) fn circuit_open() -> Error {
    let runtime = paused();
    let _entered = runtime.enter();
    let config = circuit_breaker::Config::new()
        .name("cb")
        .consecutive_failures(1)
        .open_for(Duration::from_millis(1500));
    let handle = CircuitBreakerLayer::new(config).unwrap().handle();
    handle.try_acquire().unwrap().failure();
    let error = of_kind(handle.try_acquire().unwrap_err(), ErrorKind::CircuitOpen);
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
    error
}

/// Open until an operator changes it.
pub(crate) fn circuit_forced_open() -> Error {
    let handle = CircuitBreakerLayer::default().handle();
    handle.force_open();
    let error = of_kind(handle.try_acquire().unwrap_err(), ErrorKind::CircuitOpen);
    assert_eq!(error.retry_after(), None);
    error
}

/// The next token comes in 2.5 seconds.
pub(crate) fn rate_limited() -> Error {
    let runtime = paused();
    let _entered = runtime.enter();
    let config =
        rate_limit::Config::new().name("rl").max_tokens(1).refill(2, Duration::from_secs(5));
    let handle = RateLimitLayer::new(config).unwrap().handle();
    handle.try_acquire(1).unwrap();
    let error = of_kind(handle.try_acquire(1).unwrap_err(), ErrorKind::RateLimited);
    assert_eq!(error.retry_after(), Some(Duration::from_millis(2500)));
    error
}

/// The call needs more tokens than the limiter can hold.
pub(crate) fn rate_limited_for_ever() -> Error {
    let handle = RateLimitLayer::default().handle();
    let error = of_kind(handle.try_acquire(11).unwrap_err(), ErrorKind::RateLimited);
    assert_eq!(error.retry_after(), None);
    error
}

pub(crate) fn timed_out() -> Error {
    let config = time_limit::Config::new(Duration::from_millis(10)).name("tl");
    let handle = TimeLimitLayer::new(config).unwrap().handle();
    let error = paused().block_on(handle.run(std::future::pending::<()>())).unwrap_err();
    of_kind(error, ErrorKind::TimedOut)
}

pub(crate) fn queue_timeout() -> Error {
    let config =
        bulkhead::Config::new().max_concurrent(1).queue(1).max_wait(Duration::from_millis(50));
    let handle = BulkheadLayer::new(config).unwrap().handle();
    let _busy = handle.try_acquire().unwrap();
    let error = paused().block_on(handle.acquire()).unwrap_err();
    of_kind(error, ErrorKind::QueueTimeout)
}

pub(crate) fn too_many_keys() -> Error {
    let key = |(): &()| 0_u8;
    let handle = KeyedBulkheadLayer::new(bulkhead::Config::new(), 1, key).unwrap().handle();
    let _busy = handle.try_acquire(&1).unwrap();
    of_kind(handle.try_acquire(&2).unwrap_err(), ErrorKind::TooManyKeys)
}

/// A gateway whose only route, `a`, makes this decision.
fn refused_by_a_gateway(path: &'static str, decision: Decision) -> Error {
    let auth = tower::service_fn(move |()| std::future::ready(Ok::<_, tower::BoxError>(decision)));
    let backend = tower::service_fn(|_: &'static str| std::future::ready(Ok::<(), Error>(())));
    let route = Route::new("a").backend(backend).authorize(auth, |_: &&'static str| ());
    fn extract<'a>(path: &'a &'static str) -> Option<&'a str> {
        Some(path)
    }
    let mut gateway = Gateway::new("g", Clock::default(), extract, [route]).unwrap();
    paused().block_on(gateway.call(path)).unwrap_err()
}

pub(crate) fn no_route() -> Error {
    of_kind(refused_by_a_gateway("b", Decision::Allow), ErrorKind::NoRoute)
}

pub(crate) fn denied(decision: Decision) -> Error {
    let kind = match decision {
        Decision::Unauthenticated => ErrorKind::Unauthenticated,
        _ => ErrorKind::Forbidden,
    };
    of_kind(refused_by_a_gateway("a", decision), kind)
}

/// The head of a call that ends without a message.
pub(crate) fn grpc(code: u8) -> Result<Response<String>, Infallible> {
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", u16::from(code))
        .body(String::new());
    Ok(response.unwrap())
}

/// For plain tests only: one runtime cannot block inside of another.
fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}
