//! The calls that count while the circuit is closed.

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::Config;
use buttress::{AnyError, CircuitState, Outcome};
use tower::{Layer, ServiceBuilder};

use super::{ask, breaker, touchy};
use crate::support::{
    Ask, Scripted, Step, Waiter, begin, behind, call, is_pending, ms, now, panic_of,
};

#[tokio::test(start_paused = true)]
async fn a_failure_rate_is_judged_from_the_least_number_of_calls_on_and_at_the_limit() {
    let (inner, log) = Scripted::new();
    // Three of ten are below 40 %, four of eleven too; five of twelve are above.
    log.then([Step::Fail; 3]).then([Step::Answer; 7]).then([Step::Fail; 2]);
    let layer = breaker(Config::new().failure_rate(0.4).count_window(20).min_calls(10));
    let mut service = layer.layer(inner);
    for n in 1..=11 {
        let _ = ask(&mut service);
        assert_eq!(layer.handle().state(), CircuitState::Closed, "after call {n}");
    }
    let _ = ask(&mut service);
    assert_eq!(layer.handle().state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_exactly_the_limit_opens() {
    let layer = breaker(Config::new().failure_rate(0.1));
    let (mut service, log) = behind(&layer, []);
    log.then([Step::Answer; 9]).then([Step::Fail]);
    for _ in 0..10 {
        assert_eq!(layer.handle().state(), CircuitState::Closed);
        let _ = ask(&mut service);
    }
    assert_eq!(layer.handle().state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn the_count_window_slides() {
    let layer = breaker(Config::new().failure_rate(0.5).count_window(4).min_calls(4));
    let (mut service, log) = behind(&layer, []);
    log.then([Step::Fail]).then([Step::Answer; 4]).then([Step::Fail; 2]);
    for _ in 0..6 {
        let _ = ask(&mut service);
    }
    let stats = layer.handle().stats();
    assert_eq!((stats.window_calls, stats.window_failures), (4, 1), "the first one slid out");
    let _ = ask(&mut service);
    assert_eq!(layer.handle().state(), CircuitState::Open, "two of the last four");
}

#[tokio::test(start_paused = true)]
async fn the_time_window_forgets_a_call_after_its_length() {
    let layer = breaker(Config::new().failure_rate(1.0).time_window(ms(1000)).min_calls(3));
    let (mut service, log) = behind(&layer, []);
    log.always(Step::Fail);
    let _ = ask(&mut service);
    // A call counts for at least 950 ms.
    tokio::time::advance(ms(949)).await;
    let _ = ask(&mut service);
    assert_eq!(layer.handle().stats().window_calls, 2);
    tokio::time::advance(ms(51)).await;
    assert_eq!(layer.handle().stats().window_calls, 1, "the first one is 1000 ms old");
    let _ = ask(&mut service);
    assert_eq!(layer.handle().state(), CircuitState::Closed, "two in the window");
    let _ = ask(&mut service);
    assert_eq!(layer.handle().state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn slow_calls_open_it_though_they_succeed() {
    for (took, state) in [(99, CircuitState::Closed), (100, CircuitState::Open)] {
        let config = Config::new().slow_calls(ms(100), 1.0).count_window(3).min_calls(3);
        let layer = breaker(config);
        let (mut service, log) = behind(&layer, []);
        log.always(Step::AnswerAfter(took));
        for _ in 0..3 {
            assert!(call(&mut service, Ask(0)).await.is_ok());
        }
        assert_eq!(layer.handle().state(), state, "{took} ms each");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_counts_from_its_call() {
    let config = Config::new().slow_calls(ms(100), 1.0).count_window(1).min_calls(1);
    let layer = breaker(config);
    let (mut service, log) = behind(&layer, []);
    log.always(Step::Answer);
    let unpolled = begin(&mut service, Ask(0));
    tokio::time::advance(ms(100)).await;
    assert_eq!(now(unpolled), Ok(1));
    assert_eq!(layer.handle().state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_counts_as_configured() {
    for (config, state) in [
        (touchy(), CircuitState::Closed),
        (touchy().dropped_calls(Outcome::Failure), CircuitState::Open),
    ] {
        for polls in [0, 1] {
            let (inner, log) = Scripted::new();
            log.always(Step::Never);
            let layer = breaker(config.clone());
            let mut response = begin(&mut layer.layer(inner), Ask(0));
            (0..polls).for_each(|_| assert!(is_pending(&mut response)));
            drop(response);
            assert_eq!(layer.handle().state(), state, "dropped after {polls} polls");
            assert_eq!(log.live(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_counts_as_configured_and_once() {
    for (config, state) in [
        (touchy(), CircuitState::Open),
        (touchy().panicked_calls(Outcome::Ignored), CircuitState::Closed),
    ] {
        for step in [Step::PanicInCall, Step::PanicAtPoll(1), Step::PanicAtPoll(2)] {
            let layer = breaker(config.clone());
            let (mut service, _) = behind(&layer, [step]);
            panic_of(|| {
                let mut response = begin(&mut service, Ask(0));
                while is_pending(&mut response) {}
            });
            assert_eq!(layer.handle().state(), state, "{step:?}");
            let failed = u64::from(state == CircuitState::Open);
            assert_eq!(layer.handle().stats().failures, failed, "{step:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_that_comes_after_the_state_moved_on_changes_nothing() {
    let layer = breaker(touchy());
    let handle = layer.handle();
    let (mut service, _) = behind(&layer, [Step::FailAfter(50), Step::AnswerAfter(50), Step::Fail]);
    let mut late_failure = begin(&mut service, Ask(0));
    let mut late_success = begin(&mut service, Ask(0));
    let _ = ask(&mut service);
    assert_eq!(handle.state(), CircuitState::Open);
    assert!(is_pending(&mut late_failure) && is_pending(&mut late_success));
    tokio::time::advance(ms(50)).await;
    assert!(now(late_success).is_ok());
    assert!(now(late_failure).is_err());
    assert_eq!(handle.check().unwrap_err().retry_after(), Some(ms(50)), "as it was opened");
    assert_eq!((handle.stats().opened, handle.stats().transitions), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_late_failure_does_not_open_a_circuit_that_was_reset() {
    let layer = breaker(touchy());
    let (mut service, _) = behind(&layer, [Step::FailAfter(50)]);
    let mut late = begin(&mut service, Ask(0));
    assert!(is_pending(&mut late));
    layer.handle().reset();
    tokio::time::advance(ms(50)).await;
    assert!(now(late).is_err());
    assert_eq!(layer.handle().state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_poll_ready_counts_as_a_failure() {
    let layer = breaker(touchy());
    let (mut service, log) = behind(&layer, []);
    log.fail_ready();
    let polled = Waiter::new().poll_ready(&mut service);
    assert!(matches!(polled, std::task::Poll::Ready(Err(_))), "it is the caller's to know");
    assert_eq!(layer.handle().state(), CircuitState::Open);
    assert_eq!(layer.handle().stats().failures, 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_bulkhead_further_in_says_nothing_about_the_service() {
    let bulkhead = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(1)).unwrap();
    let _busy = bulkhead.handle().try_acquire().unwrap();
    for (any_error, state) in [(false, CircuitState::Closed), (true, CircuitState::Open)] {
        let (inner, _log) = Scripted::new();
        let layer = breaker(touchy());
        let handle = layer.handle();
        if any_error {
            let layers = ServiceBuilder::new().layer(layer.classify(AnyError));
            assert!(ask(&mut layers.layer(bulkhead.clone()).service(inner)).is_err());
        } else {
            let layers = ServiceBuilder::new().layer(layer);
            assert!(ask(&mut layers.layer(bulkhead.clone()).service(inner)).is_err());
        }
        assert_eq!(handle.state(), state);
    }
}

/// Regression: a time window read as empty as soon as the circuit was open.
#[tokio::test(start_paused = true)]
async fn the_stats_show_what_opened_the_circuit_until_calls_count_again() {
    let by_rate = Config::new().slow_calls(ms(50), 1.0).failure_rate(0.75).min_calls(4);
    for config in [by_rate.clone().count_window(8), by_rate.time_window(ms(1000))] {
        let handle = breaker(config.open_for(ms(10_000))).handle();
        assert_eq!((handle.stats().failure_rate, handle.stats().slow_call_rate), (None, None));
        handle.try_acquire().unwrap().success();
        assert_eq!(handle.stats().failure_rate, Some(0.0));
        let slow = handle.try_acquire().unwrap();
        tokio::time::advance(ms(50)).await;
        slow.failure();
        (0..2).for_each(|_| handle.try_acquire().unwrap().failure());
        assert_eq!(handle.state(), CircuitState::Open);
        for wait in [0, 5000, 5000] {
            tokio::time::advance(ms(wait)).await;
            let stats = handle.stats();
            assert_eq!((stats.window_calls, stats.window_failures, stats.window_slow), (4, 3, 1));
            assert_eq!((stats.failure_rate, stats.slow_call_rate), (Some(0.75), Some(0.25)));
        }
        let probe = handle.try_acquire().unwrap();
        assert_eq!(handle.stats().window_calls, 4);
        probe.success();
        let stats = handle.stats();
        assert_eq!((stats.state, stats.window_calls), (CircuitState::Closed, 0));
        assert_eq!(stats.failure_rate, None);
    }
    let in_a_row = breaker(touchy()).handle();
    in_a_row.try_acquire().unwrap().failure();
    let stats = in_a_row.stats();
    assert_eq!((stats.window_failures, stats.failure_rate), (1, None), "no rate decides");
}
