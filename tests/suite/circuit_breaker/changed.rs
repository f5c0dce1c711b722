//! Observing a circuit without tower, and a circuit that reports nothing.

use buttress::CircuitState::{Closed, Disabled, ForcedOpen, HalfOpen, Open};
use buttress::circuit_breaker::Config;

use super::{breaker, touchy};
use crate::support::{Waiter, ms, now};

#[tokio::test(start_paused = true)]
async fn every_listener_is_woken_by_the_next_change_and_told_the_state() {
    let handle = breaker(touchy()).handle();
    let mut listeners = [0; 2].map(|_| (Waiter::new(), handle.changed()));
    for (waiter, changed) in &mut listeners {
        assert!(waiter.poll(changed).is_pending());
    }
    handle.try_acquire().unwrap().success();
    assert!(listeners.iter().all(|(waiter, _)| waiter.wakes() == 0), "a success is not a change");
    handle.try_acquire().unwrap().failure();
    for (waiter, changed) in listeners {
        assert_eq!(waiter.wakes(), 1);
        assert_eq!(now(changed), Open);
    }
}

#[tokio::test(start_paused = true)]
async fn each_change_of_a_circuit_is_heard() {
    let handle = breaker(touchy()).handle();
    let heard = |change: &dyn Fn()| {
        let (waiter, mut changed) = (Waiter::new(), handle.changed());
        let generation = handle.generation();
        assert!(waiter.poll(&mut changed).is_pending());
        change();
        assert_eq!(waiter.wakes(), 1);
        assert_eq!(handle.generation(), generation.wrapping_add(1));
        now(changed)
    };
    assert_eq!(heard(&|| handle.try_acquire().unwrap().failure()), Open);
    tokio::time::advance(ms(100)).await;
    // The probe is dropped immediately, which changes nothing.
    assert_eq!(heard(&|| drop(handle.try_acquire().unwrap())), HalfOpen);
    assert_eq!(heard(&|| handle.try_acquire().unwrap().success()), Closed);
    assert_eq!(heard(&|| handle.force_open()), ForcedOpen);
    assert_eq!(heard(&|| handle.disable()), Disabled);
}

#[tokio::test(start_paused = true)]
async fn a_change_before_the_first_poll_is_heard_and_one_before_the_listener_is_not() {
    let handle = breaker(touchy()).handle();
    let before = handle.changed();
    handle.force_open();
    let mut after = handle.changed();
    assert_eq!(now(before), ForcedOpen);
    assert!(Waiter::new().poll(&mut after).is_pending());
    handle.reset();
    handle.disable();
    assert_eq!(now(after), Disabled, "where it is now, not where it went through");
}

/// Regression: closing a closed circuit completed the future and raised the generation.
#[tokio::test(start_paused = true)]
async fn what_leaves_the_state_as_it_is_is_no_change() {
    let handle = breaker(touchy()).handle();
    let unchanged = |idle: &dyn Fn()| {
        let (waiter, mut changed) = (Waiter::new(), handle.changed());
        let (state, generation) = (handle.state(), handle.generation());
        assert!(waiter.poll(&mut changed).is_pending());
        idle();
        assert_eq!((handle.state(), handle.generation()), (state, generation));
        assert!(waiter.poll(&mut changed).is_pending());
    };
    unchanged(&|| handle.reset());
    unchanged(&|| handle.reconfigure(&touchy()).unwrap());
    handle.force_open();
    unchanged(&|| handle.force_open());
    handle.disable();
    unchanged(&|| handle.disable());
    handle.metrics_only();
    unchanged(&|| handle.metrics_only());
    unchanged(&|| handle.try_acquire().unwrap().failure());
    assert_eq!(handle.stats().transitions, 3);
}

/// The window of a closed circuit is emptied nevertheless, including calls admitted before.
#[tokio::test(start_paused = true)]
async fn a_reset_empties_the_window_of_a_closed_circuit() {
    let handle = breaker(Config::new().consecutive_failures(2)).handle();
    let late = handle.try_acquire().unwrap();
    handle.try_acquire().unwrap().failure();
    handle.reset();
    assert_eq!(handle.stats().window_calls, 0);
    late.failure();
    assert_eq!((handle.stats().window_calls, handle.state()), (0, Closed));
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_was_dropped_is_not_woken() {
    let handle = breaker(touchy()).handle();
    let (waiter, mut changed) = (Waiter::new(), handle.changed());
    assert!(waiter.poll(&mut changed).is_pending());
    drop(changed);
    handle.force_open();
    assert_eq!(waiter.wakes(), 0);
}

/// Regression: calls of a disabled circuit were missing from its window, but counted in its
/// counters.
#[tokio::test(start_paused = true)]
async fn a_disabled_circuit_counts_nothing_at_all() {
    let handle = breaker(Config::new().count_calls(true)).handle();
    handle.disable();
    handle.try_acquire().unwrap().failure();
    handle.try_acquire().unwrap().success();
    drop(handle.try_acquire().unwrap());
    let stats = handle.stats();
    assert_eq!((stats.failures, stats.window_calls, stats.opened), (0, 0, 0));
    assert_eq!((stats.admitted, stats.successes), (Some(0), Some(0)));
    handle.reset();
    handle.try_acquire().unwrap().failure();
    let stats = handle.stats();
    assert_eq!((stats.failures, stats.admitted), (1, Some(1)), "and everything once it is back");
}
