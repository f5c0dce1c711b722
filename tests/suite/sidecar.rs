//! Sidecar: limiter, breaker, retry and time limit as one layer, and counters that add up.

mod probing;

use buttress::sidecar::{Config, SidecarLayer, Stats};
use buttress::{CircuitState, ErrorKind, Outcome, circuit_breaker, rate_limit, retry};
use tower::Layer;

use crate::support::{
    AppError, Ask, Scripted, Step, Waiter, Watch, begin, behind, call, is_pending, ms, now,
    panic_of, soon,
};

/// Two attempts of 100 ms, with 10 ms between them; three exhausted requests open the circuit for a
/// second.
fn config() -> Config {
    Config::new()
        .name("prices")
        .retry(retry::Config::new().attempts(2).backoff(retry::Backoff::fixed(ms(10))))
        .time_limit(ms(100))
        .circuit_breaker(circuit_breaker::Config::new().consecutive_failures(3).open_for(ms(1000)))
}

fn sidecar(config: Config) -> SidecarLayer {
    SidecarLayer::new(config).unwrap()
}

/// The identity in the documentation.
fn adds_up(stats: Stats) {
    let ends = stats.succeeded + stats.failed + stats.ignored + stats.timed_out;
    let ends = ends + stats.rate_limited + stats.circuit_open + stats.abandoned;
    assert_eq!(stats.requests, ends, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn the_default_opens_after_five_requests_of_four_attempts_for_thirty_seconds() {
    let layer = SidecarLayer::default();
    let (mut service, log) = behind(&layer, []);
    log.always(Step::Fail);
    for n in 1..=5 {
        assert_eq!(layer.handle().circuit_breaker().state(), CircuitState::Closed);
        let error = call(&mut service, Ask(0)).await.unwrap_err();
        assert_eq!(error, AppError::Broken("scripted failure"), "the last error, unchanged");
        assert_eq!(log.calls(), 4 * n);
    }
    let open = call(&mut service, Ask(0)).await.unwrap_err();
    assert_eq!(open.refusal().retry_after(), Some(ms(30_000)));
    log.always(Step::Answer);
    tokio::time::advance(ms(30_000)).await;
    assert!(call(&mut service, Ask(0)).await.is_ok());
    assert_eq!(layer.handle().circuit_breaker().state(), CircuitState::HalfOpen, "one of two");
    assert!(call(&mut service, Ask(0)).await.is_ok());
    assert_eq!(layer.handle().circuit_breaker().state(), CircuitState::Closed);
    let stats = layer.handle().stats();
    assert_eq!((stats.requests, stats.failed, stats.circuit_open, stats.succeeded), (8, 5, 1, 2));
    assert_eq!(stats.retries, 15);
    adds_up(stats);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_is_for_each_attempt() {
    let (mut service, log) = behind(&sidecar(config()), [Step::Never]);
    let watch = Watch::start();
    assert_eq!(call(&mut service, Ask(0)).await, Ok(2));
    assert_eq!((log.at(), watch.ms(), log.live()), (vec![0, 110], 110, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_costs_one_token_whatever_its_attempts() {
    let layer = sidecar(config().rate_limit(rate_limit::Config::new().max_tokens(2)));
    let (mut service, log) = behind(&layer, []);
    log.always(Step::Fail);
    for left in [1, 0] {
        assert!(call(&mut service, Ask(0)).await.is_err());
        assert_eq!(layer.handle().rate_limit().unwrap().available(), left);
    }
    let error = now(begin(&mut service, Ask(0))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::RateLimited));
    assert_eq!((log.calls(), layer.handle().stats().rate_limited), (4, 1));
    assert_eq!(layer.handle().circuit_breaker().stats().window_failures, 2);
    adds_up(layer.handle().stats());
}

#[tokio::test(start_paused = true)]
async fn the_circuit_is_asked_again_before_a_further_attempt() {
    let (inner, log) = Scripted::new();
    log.always(Step::Fail);
    let layer = sidecar(config());
    let mut response = begin(&mut layer.layer(inner), Ask(0));
    assert!(is_pending(&mut response));
    layer.handle().circuit_breaker().force_open();
    tokio::time::advance(ms(10)).await;
    let error = now(response).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::CircuitOpen));
    assert!(!error.refusal().never_reached_service(), "the first attempt did");
    assert_eq!((log.calls(), layer.handle().stats().circuit_open), (1, 1));
    adds_up(layer.handle().stats());
}

#[tokio::test(start_paused = true)]
async fn a_half_open_circuit_lets_the_probe_make_all_its_attempts() {
    let (inner, log) = Scripted::new();
    log.then([Step::Fail, Step::Answer]);
    let layer = sidecar(config());
    let circuit = layer.handle().circuit_breaker().clone();
    (0..3).for_each(|_| circuit.try_acquire().unwrap().failure());
    tokio::time::advance(ms(1000)).await;
    assert_eq!(soon(call(&mut layer.layer(inner), Ask(0))).await, Ok(2));
    assert_eq!((log.calls(), circuit.state()), (2, CircuitState::Closed));
}

/// Its own admission is void, and the only place of the half-open circuit is taken.
#[tokio::test(start_paused = true)]
async fn a_request_from_before_the_circuit_opened_does_not_add_to_the_probe() {
    let retry = retry::Config::new().attempts(2).backoff(retry::Backoff::fixed(ms(2000)));
    let layer = sidecar(config().retry(retry).time_limit(ms(60_000)));
    let (mut service, log) = behind(&layer, [Step::Fail, Step::Held]);
    let mut old = begin(&mut service, Ask(0));
    assert!(is_pending(&mut old));
    let circuit = layer.handle().circuit_breaker().clone();
    (0..3).for_each(|_| circuit.try_acquire().unwrap().failure());
    tokio::time::advance(ms(1000)).await;
    let mut probe = begin(&mut service, Ask(1));
    assert!(is_pending(&mut probe));
    assert_eq!(circuit.state(), CircuitState::HalfOpen);
    tokio::time::advance(ms(1000)).await;
    assert_eq!(now(old).unwrap_err().kind(), Some(ErrorKind::CircuitOpen));
    assert_eq!(log.calls(), 2, "one probe, and nothing beside it");
}

#[tokio::test(start_paused = true)]
async fn every_request_ends_in_exactly_one_counter() {
    let layer = sidecar(config().rate_limit(rate_limit::Config::new().max_tokens(100)));
    let (mut service, log) = behind(&layer, []);
    log.then([Step::Answer]);
    assert!(call(&mut service, Ask(0)).await.is_ok());
    log.then([Step::Fail, Step::Answer]);
    assert!(call(&mut service, Ask(0)).await.is_ok());
    log.then([Step::Fail, Step::Fail]);
    assert!(call(&mut service, Ask(0)).await.is_err());
    log.then([Step::Fail, Step::Never]);
    assert!(call(&mut service, Ask(0)).await.is_err());
    // Dropped unpolled, during an attempt, and between two attempts.
    drop(begin(&mut service, Ask(0)));
    for step in [Step::Never, Step::Fail] {
        log.then([Step::Answer]);
        assert!(call(&mut service, Ask(0)).await.is_ok());
        log.then([step]);
        let mut dropped = begin(&mut service, Ask(0));
        assert!(is_pending(&mut dropped));
        drop(dropped);
    }
    for step in [Step::PanicInCall, Step::PanicAtPoll(1), Step::PanicAtPoll(2)] {
        log.then([Step::Answer]);
        assert!(call(&mut service, Ask(0)).await.is_ok());
        log.then([step]);
        panic_of(|| {
            let mut response = begin(&mut service, Ask(0));
            while is_pending(&mut response) {}
        });
    }
    layer.handle().circuit_breaker().force_open();
    assert!(call(&mut service, Ask(0)).await.is_err());
    let stats = layer.handle().stats();
    adds_up(stats);
    assert_eq!((stats.succeeded, stats.failed, stats.timed_out), (7, 1, 1));
    assert_eq!((stats.abandoned, stats.circuit_open, stats.rate_limited), (6, 1, 0));
    assert_eq!(stats.requests, 16);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_ignored_is_counted_as_that() {
    let (inner, log) = Scripted::new();
    log.always(Step::Fail);
    let ignore = |_: &Result<u32, AppError>| Outcome::Ignored;
    let layer = sidecar(config())
        .classify(buttress::classify_fn(ignore))
        .retry_on(buttress::classify_fn(ignore));
    assert!(call(&mut layer.layer(inner), Ask(0)).await.is_err());
    let stats = layer.handle().stats();
    assert_eq!((log.calls(), stats.ignored), (1, 1));
    adds_up(stats);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_counts_for_the_breaker() {
    let layer = sidecar(config());
    let (mut service, log) = behind(&layer, []);
    log.always(Step::Never);
    for _ in 0..3 {
        let error = call(&mut service, Ask(0)).await.unwrap_err();
        assert_eq!(error.to_string(), r#"time limit "prices" of 100ms passed"#);
    }
    assert_eq!(layer.handle().circuit_breaker().state(), CircuitState::Open);
    assert_eq!(layer.handle().stats().timed_out, 3);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_over_a_pending_service_refuses_at_once() {
    let layer = sidecar(config());
    let (mut service, log) = behind(&layer, []);
    log.block();
    layer.handle().circuit_breaker().force_open();
    assert_eq!(now(begin(&mut service, Ask(0))).unwrap_err().kind(), Some(ErrorKind::CircuitOpen));
    assert_eq!(log.ready_polls(), 0);
    adds_up(layer.handle().stats());
}

/// Regression: an attempt that had waited out its backoff, and was parked in the service, stayed
/// there forever when the circuit was forced open.
#[tokio::test(start_paused = true)]
async fn a_further_attempt_that_is_parked_in_the_service_hears_the_circuit_open() {
    for forced in [true, false] {
        let (inner, log) = Scripted::new();
        log.always(Step::Fail);
        let layer = sidecar(config());
        let mut response = begin(&mut layer.layer(inner), Ask(0));
        assert!(is_pending(&mut response));
        log.block();
        tokio::time::advance(ms(10)).await;
        let waiter = Waiter::new();
        assert!(waiter.poll(&mut response).is_pending());
        let circuit = layer.handle().circuit_breaker().clone();
        if forced {
            circuit.force_open();
        } else {
            (0..3).for_each(|_| circuit.try_acquire().unwrap().failure());
        }
        assert!(waiter.wakes() >= 1);
        let error = now(response).unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::CircuitOpen));
        assert_eq!(error.refusal().retry_after(), (!forced).then_some(ms(1000)));
        assert!(!error.refusal().never_reached_service(), "the first attempt did");
        assert_eq!((log.calls(), layer.handle().stats().circuit_open), (1, 1));
        adds_up(layer.handle().stats());
    }
}
