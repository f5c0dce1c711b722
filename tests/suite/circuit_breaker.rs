//! Circuit breaker: when it opens and closes, which calls it admits as probes, and which waiters it
//! wakes.

mod changed;
mod closed;
mod half_open;
mod reserved;
mod user_code;
mod waiting;

use std::time::Duration;

use buttress::circuit_breaker::{CircuitBreakerLayer, Config, Handle};
use buttress::{CircuitState, ErrorKind};
use tower::{Layer, Service};

use crate::support::{AppError, Ask, Scripted, Step, begin, behind, call, ms, now};

fn breaker(config: Config) -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(config).unwrap()
}

/// Opens at the first failure, for 100 ms.
fn touchy() -> Config {
    Config::new().consecutive_failures(1).open_for(ms(100))
}

/// Opens a [`touchy`] circuit, and waits until a probe is due.
async fn fails_and_may_probe(handle: &Handle) {
    handle.try_acquire().unwrap().failure();
    tokio::time::advance(ms(100)).await;
}

fn ask<S>(service: &mut S) -> Result<u32, AppError>
where
    S: Service<Ask, Response = u32, Error = AppError>,
{
    now(begin(service, Ask(0)))
}

#[tokio::test(start_paused = true)]
async fn it_opens_at_the_fifth_failure_in_a_row() {
    let layer = CircuitBreakerLayer::default();
    let (mut service, log) = behind(&layer, []);
    log.then([Step::Fail; 4]).then([Step::Answer]).then([Step::Fail; 5]);
    for n in 1..=10 {
        assert_eq!(layer.handle().state(), CircuitState::Closed, "before call {n}");
        let _ = ask(&mut service);
    }
    assert_eq!(layer.handle().state(), CircuitState::Open);
    let refused = ask(&mut service).unwrap_err();
    assert_eq!(refused.kind(), Some(ErrorKind::CircuitOpen));
    assert_eq!(log.calls(), 10, "the refused call did not reach the service");
    let stats = layer.handle().stats();
    assert_eq!((stats.failures, stats.refused, stats.opened, stats.transitions), (9, 1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn it_refuses_until_exactly_thirty_seconds_have_passed() {
    let layer = CircuitBreakerLayer::default();
    let (mut service, _) = behind(&layer, [Step::Fail; 5]);
    while layer.handle().state() == CircuitState::Closed {
        let _ = ask(&mut service);
    }
    let error = ask(&mut service).unwrap_err();
    assert_eq!(error.refusal().retry_after(), Some(ms(30_000)));
    assert!(error.refusal().never_reached_service());
    tokio::time::advance(ms(29_999)).await;
    let error = ask(&mut service).unwrap_err();
    assert_eq!(error.refusal().retry_after(), Some(ms(1)));
    assert_eq!(error.to_string(), "circuit breaker is open (probes in 1ms)");
    tokio::time::advance(Duration::from_nanos(999_999)).await;
    let error = ask(&mut service).unwrap_err();
    assert_eq!(error.refusal().retry_after(), Some(Duration::from_nanos(1)));
    tokio::time::advance(Duration::from_nanos(1)).await;
    assert_eq!(ask(&mut service), Ok(6), "the probe");
    assert_eq!(layer.handle().state(), CircuitState::Closed);
    assert_eq!(layer.handle().stats().transitions, 3);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_over_a_pending_service_refuses_at_once() {
    let layer = breaker(touchy());
    let (mut service, log) = behind(&layer, []);
    log.block();
    layer.handle().try_acquire().unwrap().failure();
    assert_eq!(ask(&mut service).unwrap_err().kind(), Some(ErrorKind::CircuitOpen));
    assert_eq!(log.ready_polls(), 0, "the service was not polled");
}

#[tokio::test(start_paused = true)]
async fn what_poll_ready_saw_is_what_the_call_gets() {
    let layer = breaker(touchy());
    let (mut service, log) = behind(&layer, []);
    layer.handle().try_acquire().unwrap().failure();
    assert!(crate::support::Waiter::new().poll_ready(&mut service).is_ready());
    // The service was not polled, so it must not be called although the circuit is closed now.
    layer.handle().reset();
    let mut clone = service.clone();
    let error = now(service.call(Ask(0))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::CircuitOpen));
    assert_eq!(log.calls(), 0);
    assert_eq!(ask(&mut clone), Ok(1), "a clone does not copy the refusal");
    assert_eq!(ask(&mut service), Ok(2), "and it is used up");
}

#[tokio::test(start_paused = true)]
async fn eight_services_of_one_layer_open_together() {
    let layer = breaker(Config::new().consecutive_failures(8));
    let mut services: Vec<_> = (0..8)
        .map(|_| {
            let (inner, log) = Scripted::new();
            log.always(Step::Fail);
            (layer.clone().layer(inner), log)
        })
        .collect();
    for (service, _) in &mut services {
        assert_eq!(layer.handle().state(), CircuitState::Closed);
        let _ = ask(service);
    }
    for (service, log) in &mut services {
        assert_eq!(ask(service).unwrap_err().kind(), Some(ErrorKind::CircuitOpen));
        assert_eq!(log.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_overrules_it() {
    let layer = breaker(touchy());
    let handle = layer.handle();
    let (mut service, log) = behind(&layer, []);

    handle.force_open();
    tokio::time::advance(ms(1_000_000)).await;
    let error = ask(&mut service).unwrap_err();
    assert_eq!(error.refusal().retry_after(), None, "the duration is unknown");
    assert_eq!(error.to_string(), "circuit breaker is not taking calls");

    log.always(Step::Fail);
    handle.disable();
    assert!(ask(&mut service).is_err());
    assert_eq!((handle.state(), handle.stats().window_failures), (CircuitState::Disabled, 0));

    handle.metrics_only();
    for _ in 0..3 {
        assert!(ask(&mut service).is_err());
    }
    assert_eq!((handle.state(), handle.stats().window_failures), (CircuitState::MetricsOnly, 3));

    handle.reset();
    assert_eq!((handle.state(), handle.stats().window_failures), (CircuitState::Closed, 0));
    assert!(ask(&mut service).is_err());
    assert_eq!(handle.state(), CircuitState::Open);
    assert_eq!(log.calls(), 5, "all but the one that was refused");
}

#[tokio::test(start_paused = true)]
async fn a_live_change_of_the_rules_keeps_the_state() {
    let layer = breaker(touchy());
    let handle = layer.handle();
    handle.try_acquire().unwrap().failure();
    handle.reconfigure(&Config::new().consecutive_failures(3).open_for(ms(7))).unwrap();
    assert_eq!(handle.state(), CircuitState::Open);
    assert_eq!(
        handle.check().unwrap_err().retry_after(),
        Some(ms(100)),
        "as it was when it opened"
    );
    let refused = handle.reconfigure(&Config::new().failure_rate(0.5)).unwrap_err();
    assert_eq!(refused.field(), "failure-rate");
    tokio::time::advance(ms(100)).await;
    handle.try_acquire().unwrap().success();
    for state in [CircuitState::Closed, CircuitState::Closed, CircuitState::Open] {
        handle.try_acquire().unwrap().failure();
        assert_eq!(handle.state(), state);
    }
    assert_eq!(handle.check().unwrap_err().retry_after(), Some(ms(7)));
}

#[tokio::test(start_paused = true)]
async fn counters_add_up() {
    let layer = breaker(Config::new().consecutive_failures(2).count_calls(true));
    let (mut service, _) =
        behind(&layer, [Step::Answer, Step::Fail, Step::Answer, Step::Fail, Step::Fail]);
    for _ in 0..9 {
        let _ = call(&mut service, Ask(0)).await;
    }
    let stats = layer.handle().stats();
    assert_eq!(stats.admitted, Some(5));
    assert_eq!(stats.successes.unwrap() + stats.failures, 5, "what was admitted ended somehow");
    assert_eq!(stats.admitted.unwrap() + stats.refused, 9, "and the rest was refused");
}

/// Regression: new rules that omitted the setting ended a half of the counting of calls.
#[tokio::test(start_paused = true)]
async fn new_rules_do_not_end_the_counting_of_calls() {
    let layer = breaker(Config::new().count_calls(true));
    let handle = layer.handle();
    handle.reconfigure(&Config::new().consecutive_failures(3)).unwrap();
    let mut service = layer.layer(Scripted::new().0);
    for _ in 0..10 {
        assert!(ask(&mut service).is_ok());
        handle.try_acquire().unwrap().success();
    }
    assert_eq!((handle.stats().admitted, handle.stats().successes), (Some(20), Some(20)));

    let layer = breaker(Config::new());
    layer.handle().reconfigure(&Config::new().count_calls(true)).unwrap();
    layer.handle().try_acquire().unwrap().success();
    assert_eq!((layer.handle().stats().admitted, layer.handle().stats().successes), (None, None));
}

#[test]
fn failures_in_a_row_may_be_without_end() {
    let handle = breaker(Config::new().consecutive_failures(u32::MAX)).handle();
    (0..100).for_each(|_| handle.try_acquire().unwrap().failure());
    assert_eq!((handle.state(), handle.stats().window_failures), (CircuitState::Closed, 100));
}
