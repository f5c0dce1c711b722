//! Code of the user that runs while the circuit decides may read the circuit, and may panic.

use buttress::circuit_breaker::Config;
use buttress::{CircuitState, Event, Name, Outcome};
use tower::Layer;

use super::{breaker, fails_and_may_probe, touchy};
use crate::support::{Ask, Scripted, Waiter, begin, behind, ms, now, panic_of, without_deadlock};

/// Regression: the circuit called a hint under its lock, and a hint that read the circuit waited
/// for itself.
#[test]
fn a_hint_may_look_at_the_circuit_it_is_for() {
    without_deadlock(async || {
        let handle = breaker(touchy().honour_hint(ms(1000))).handle();
        fails_and_may_probe(&handle).await;
        let probe = handle.try_acquire().unwrap();
        probe.settle(Outcome::Failure, || {
            assert!(handle.check().is_err(), "the one place is taken");
            assert_eq!(handle.stats().state, CircuitState::HalfOpen);
            Some(ms(300))
        });
        assert_eq!(handle.state(), CircuitState::Open);
        assert_eq!(handle.check().unwrap_err().retry_after(), Some(ms(300)));
    });
}

/// Regression: the panic lost the probe, and callers that waited for its end were not woken.
#[tokio::test(start_paused = true)]
async fn a_probe_whose_hint_panics_has_panicked() {
    let layer = breaker(touchy().honour_hint(ms(1000))).backpressure();
    let handle = layer.handle();
    fails_and_may_probe(&handle).await;
    let probe = handle.try_acquire().unwrap();
    let (waiter, mut service) = (Waiter::new(), layer.layer(Scripted::new().0));
    assert!(waiter.poll_ready(&mut service).is_pending());
    panic_of(|| probe.settle(Outcome::Failure, || panic!("no hint")));
    assert_eq!((handle.state(), handle.stats().failures), (CircuitState::Open, 2));
    assert_eq!(waiter.wakes(), 1);
    // It waits for the new open time.
    waiter.woken_after(100, |waiter| waiter.poll_ready(&mut service).is_pending()).await;
    assert!(waiter.poll_ready(&mut service).is_ready());
}

/// Regression: the observer was called before the waiters were woken, and its panic left them
/// parked in front of a closed circuit.
#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_loses_no_wake() {
    let observer = |_: Name, event: &Event| {
        if let Event::CircuitChanged { to: CircuitState::Closed, .. } = event {
            panic!("the observer's own");
        }
    };
    let layer = breaker(Config::new().observer(observer)).backpressure();
    let handle = layer.handle();
    handle.force_open();
    let (waiter, mut service) = (Waiter::new(), layer.layer(Scripted::new().0));
    assert!(waiter.poll_ready(&mut service).is_pending());
    assert_eq!(panic_of(|| handle.reset()), "the observer's own");
    assert_eq!(handle.state(), CircuitState::Closed);
    assert_eq!(waiter.wakes(), 1);
    assert!(waiter.poll_ready(&mut service).is_ready());
}

/// Regression: an error of `poll_ready` counted as a failure, and a panic did not count.
#[tokio::test(start_paused = true)]
async fn a_panic_in_poll_ready_counts_as_that_of_a_call() {
    for (outcome, failures) in [(Outcome::Failure, 1), (Outcome::Ignored, 0)] {
        let layer = breaker(touchy().panicked_calls(outcome));
        let (inner, log) = Scripted::new();
        let mut service = layer.layer(inner);
        log.panic_ready();
        panic_of(|| Waiter::new().poll_ready(&mut service));
        assert_eq!(layer.handle().stats().failures, failures);

        let layer = layer.backpressure();
        layer.handle().reset();
        let (mut service, log) = behind(&layer, []);
        log.panic_ready();
        panic_of(|| Waiter::new().poll_ready(&mut service));
        assert_eq!(layer.handle().stats().failures, 2 * failures);
        assert_eq!(layer.handle().stats().opened, 2 * failures);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_poll_ready_does_not_keep_the_place_of_a_probe() {
    let layer = breaker(touchy().panicked_calls(Outcome::Ignored)).backpressure();
    let handle = layer.handle();
    fails_and_may_probe(&handle).await;
    let (inner, log) = Scripted::new();
    log.panic_ready();
    let mut service = layer.layer(inner.clone());
    panic_of(|| Waiter::new().poll_ready(&mut service));
    drop(service);
    assert_eq!(handle.state(), CircuitState::HalfOpen);
    assert_eq!(now(begin(&mut layer.layer(inner), Ask(0))), Ok(1), "another one probes");
    assert_eq!(handle.state(), CircuitState::Closed);
}

/// Regression: the reservation of a backpressure service hid the panic of its own call.
#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_in_poll_ready_fails_in_both_modes() {
    for backpressure in [false, true] {
        let layer = breaker(touchy());
        let handle = layer.handle();
        fails_and_may_probe(&handle).await;
        let (inner, log) = Scripted::new();
        log.panic_ready();
        if backpressure {
            let mut service = layer.backpressure().layer(inner);
            panic_of(|| Waiter::new().poll_ready(&mut service));
        } else {
            let mut service = layer.layer(inner);
            panic_of(|| Waiter::new().poll_ready(&mut service));
        }
        assert_eq!((handle.state(), handle.stats().failures), (CircuitState::Open, 2));
    }
}
