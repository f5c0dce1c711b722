//! Backpressure reserves in `poll_ready` the probe that the call will use: the fate of unused
//! reservations.

use buttress::circuit_breaker::Config;
use buttress::{CircuitState, Outcome};
use tower::{Layer, Service};

use super::{breaker, fails_and_may_probe, touchy};
use crate::support::{Ask, Scripted, Step, Waiter, behind, ms, now};

/// Regression: a reservation from before a reset was dropped in the call that replaced it, and
/// counted as a dropped call.
#[tokio::test(start_paused = true)]
async fn a_reservation_that_a_reset_made_stale_is_no_failure() {
    let layer = breaker(touchy().dropped_calls(Outcome::Failure)).backpressure();
    let handle = layer.handle();
    let mut service = layer.layer(Scripted::new().0);
    let waiter = Waiter::new();
    for again in [false, true] {
        assert!(waiter.poll_ready(&mut service).is_ready());
        handle.reset();
        if again {
            assert!(waiter.poll_ready(&mut service).is_ready());
        }
        assert!(now(service.call(Ask(0))).is_ok());
        assert_eq!((handle.stats().failures, handle.state()), (0, CircuitState::Closed));
    }
    assert!(waiter.poll_ready(&mut service).is_ready());
    handle.reset();
    drop(service);
    assert_eq!((handle.stats().failures, handle.state()), (0, CircuitState::Closed));
}

/// The call never began, so it cannot have been dropped.
#[tokio::test(start_paused = true)]
async fn a_reserved_probe_that_is_dropped_is_no_failure() {
    let layer = breaker(touchy().dropped_calls(Outcome::Failure)).backpressure();
    let handle = layer.handle();
    fails_and_may_probe(&handle).await;
    let mut service = layer.layer(Scripted::new().0);
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    drop(service);
    assert_eq!((handle.stats().failures, handle.state()), (1, CircuitState::HalfOpen));
}

#[tokio::test(start_paused = true)]
async fn only_a_call_counts_as_admitted() {
    let layer = breaker(Config::new().count_calls(true)).backpressure();
    let handle = layer.handle();
    let mut service = layer.layer(Scripted::new().0);
    for _ in 0..3 {
        assert!(Waiter::new().poll_ready(&mut service.clone()).is_ready());
    }
    assert_eq!(handle.stats().admitted, Some(0));
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    assert_eq!(now(service.call(Ask(0))), Ok(1));
    assert_eq!((handle.stats().admitted, handle.stats().successes), (Some(1), Some(1)));
}

/// Regression: a call admitted before slow calls counted was timed, and then not judged.
#[tokio::test(start_paused = true)]
async fn a_call_reserved_before_slow_calls_counted_is_judged_when_it_was_slow() {
    let config = || Config::new().failure_rate(0.5).count_window(2).min_calls(2);
    for config in [config(), config().time_window(ms(10_000))] {
        let layer = breaker(config.clone()).backpressure();
        let handle = layer.handle();
        handle.try_acquire().unwrap().success();
        handle.try_acquire().unwrap().success();
        let (mut service, log) = behind(&layer, []);
        log.always(Step::AnswerAfter(200));
        assert!(Waiter::new().poll_ready(&mut service).is_ready());
        handle.reconfigure(&config.slow_calls(ms(100), 0.3)).unwrap();
        assert!(service.call(Ask(0)).await.is_ok());
        assert_eq!(handle.state(), CircuitState::Open);
    }
}
