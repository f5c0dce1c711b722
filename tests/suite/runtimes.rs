//! A layer can outlive one runtime and run in another, whose paused clock is earlier.

use std::future::Future;

use buttress::ErrorKind;
use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::retry::{Backoff, Budget, Config, RetryLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use tower::Layer;

use crate::support::{
    Ask, Scripted, Step, Watch, begin, call, is_pending, ms, now, panic_of, soon,
};

const HOUR: u64 = 3_600_000;

/// Runs to the end in a separate runtime, which is then dropped.
fn in_a_runtime<F: Future>(future: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future)
}

#[test]
fn a_limiter_that_meets_an_earlier_clock_gives_no_more_than_it_may() {
    let config = rate_limit::Config::new().max_tokens(2).refill(1, ms(100));
    for config in
        [config.clone(), config.clone().fixed_window(2, ms(100)), config.sliding_window(2, ms(100))]
    {
        let handle = in_a_runtime(async { RateLimitLayer::new(config).unwrap().handle() });
        in_a_runtime(async {
            tokio::time::advance(ms(HOUR)).await;
            handle.try_acquire(2).unwrap();
        });
        in_a_runtime(async {
            assert!(handle.available() <= 2);
            let taken = (0..5).filter(|_| handle.try_acquire(1).is_ok()).count();
            assert!(taken <= 2, "{taken} immediately");
            tokio::time::advance(ms(2 * HOUR)).await;
            handle.try_acquire(2).unwrap();
            assert!(handle.try_acquire(1).is_err());
        });
    }
}

#[test]
fn a_breaker_that_meets_an_earlier_clock_still_ends_its_open_time() {
    let config = circuit_breaker::Config::new().open_for(ms(100));
    for config in [
        config.clone().consecutive_failures(1),
        config.clone().failure_rate(0.5).min_calls(1),
        config.failure_rate(0.5).min_calls(1).time_window(ms(1000)),
    ] {
        let handle = in_a_runtime(async { CircuitBreakerLayer::new(config).unwrap().handle() });
        in_a_runtime(async {
            tokio::time::advance(ms(HOUR)).await;
            handle.try_acquire().unwrap().failure();
        });
        in_a_runtime(async {
            assert!(handle.try_acquire().is_err());
            tokio::time::advance(ms(2 * HOUR)).await;
            handle.try_acquire().unwrap().success();
            handle.try_acquire().unwrap().failure();
            assert!(handle.try_acquire().is_err());
        });
    }
}

#[test]
fn a_queue_works_in_every_runtime_it_is_used_in() {
    let config = bulkhead::Config::new().max_concurrent(1).queue(4).max_wait(ms(50));
    let layer = BulkheadLayer::new(config).unwrap();
    let running = layer.handle().try_acquire().unwrap();
    // The first runtime ends with a call waiting, and its timer with it.
    let handle = layer.handle();
    let mut left_over = Box::pin(handle.acquire());
    in_a_runtime(async { assert!(is_pending(&mut left_over)) });
    in_a_runtime(async {
        drop(left_over);
        let error = soon(layer.handle().acquire()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueTimeout);
        let mut service = layer.clone().queued().layer(Scripted::new().0);
        let mut waits = begin(&mut service, Ask(0));
        assert!(is_pending(&mut waits));
        drop(running);
        assert_eq!(now(waits), Ok(1));
    });
    assert_eq!((layer.handle().stats().queued, layer.handle().stats().active), (0, 0));
}

#[test]
fn one_who_waits_is_not_held_up_by_one_left_over_from_a_runtime_that_ended() {
    let config = bulkhead::Config::new().max_concurrent(1).queue(4).max_wait(ms(50));
    let layer = BulkheadLayer::new(config).unwrap();
    let handle = layer.handle();
    let running = handle.try_acquire().unwrap();
    let mut left_over = Box::pin(handle.acquire());
    in_a_runtime(async { assert!(is_pending(&mut left_over)) });
    in_a_runtime(async {
        let mut waits = Box::pin(handle.acquire());
        assert!(is_pending(&mut waits));
        drop(running);
        assert!(is_pending(&mut waits), "the first in line was granted the permit");
        drop(left_over);
        assert!(now(waits).is_ok());
    });
}

#[test]
fn retries_and_time_limits_count_in_the_runtime_of_the_call() {
    let budget = Budget::new(0.5, 1).unwrap();
    let config = Config::new().backoff(Backoff::fixed(ms(10))).budget(budget).total_time(ms(HOUR));
    let retry = RetryLayer::new(config).unwrap();
    let limit = TimeLimitLayer::new(time_limit::Config::new(ms(100))).unwrap();
    for hours in [1, 0, 2] {
        in_a_runtime(async {
            tokio::time::advance(ms(hours * HOUR)).await;
            let (inner, log) = Scripted::new();
            log.then([Step::Fail, Step::Never]);
            let mut service = retry.layer(limit.layer(inner));
            assert_eq!(call(&mut service, Ask(0)).await, Ok(3));
            assert_eq!(log.at(), [0, 10, 120]);
        });
    }
}

/// Regression: the timer of the queue belonged to a dropped runtime. A caller that released a
/// permit, or changed the configuration, polled the timer and panicked.
#[test]
fn a_queue_survives_the_runtime_its_timer_was_made_in() {
    let config = bulkhead::Config::new().max_concurrent(1).queue(4).max_wait(ms(50));
    let handle = BulkheadLayer::new(config.clone()).unwrap().handle();
    let running = handle.try_acquire().unwrap();
    let (mut first, mut second) = (Box::pin(handle.acquire()), Box::pin(handle.acquire()));
    in_a_runtime(async { assert!(is_pending(&mut first) && is_pending(&mut second)) });
    // Outside of every runtime, and in another one.
    handle.reconfigure(&config).unwrap();
    in_a_runtime(async {
        handle.reconfigure(&config).unwrap();
        drop(running);
        drop(now(first).unwrap());
        drop(now(second).unwrap());
    });
    assert_eq!((handle.stats().queued, handle.stats().active), (0, 0));
}

/// Regression: it inherited the deadline of the waiter ahead, ten hours later by another clock.
#[test]
fn one_who_waits_by_an_earlier_clock_has_a_deadline_of_its_own() {
    let config = bulkhead::Config::new().max_concurrent(1).queue(4).max_wait(ms(50));
    let handle = BulkheadLayer::new(config).unwrap().handle();
    let _running = handle.try_acquire().unwrap();
    let mut left_over = Box::pin(handle.acquire());
    in_a_runtime(async {
        tokio::time::advance(ms(10 * HOUR)).await;
        assert!(is_pending(&mut left_over));
    });
    in_a_runtime(async {
        let watch = Watch::start();
        let error = soon(handle.acquire()).await.unwrap_err();
        assert_eq!((error.kind(), watch.ms()), (ErrorKind::QueueTimeout, 50));
    });
}

/// Regression: failures at an earlier time than the newest slice were not counted, ten thousand of
/// them.
#[test]
fn a_time_window_that_meets_an_earlier_clock_still_sees_failures() {
    let config = circuit_breaker::Config::new().failure_rate(0.5).time_window(ms(1000));
    let handle = CircuitBreakerLayer::new(config.min_calls(10)).unwrap().handle();
    in_a_runtime(async {
        tokio::time::advance(ms(HOUR)).await;
        for _ in 0..40 {
            handle.try_acquire().unwrap().success();
            tokio::time::advance(ms(50)).await;
        }
    });
    let failures = in_a_runtime(async {
        let until_it_opens = (0..100).take_while(|_| {
            let admitted = handle.try_acquire();
            admitted.is_ok_and(|admission| {
                admission.failure();
                true
            })
        });
        until_it_opens.count()
    });
    assert!((10..=21).contains(&failures), "at most twenty successes still count: {failures}");
}

#[test]
fn a_wait_outside_of_a_runtime_panics_and_leaves_the_queue() {
    let config = rate_limit::Config::new().max_tokens(1).refill(1, ms(1000));
    let handle = RateLimitLayer::new(config).unwrap().handle();
    handle.try_acquire(1).unwrap();
    let mut waits = Box::pin(handle.acquire(1));
    panic_of(|| is_pending(&mut waits));
    drop(waits);
    assert_eq!(handle.stats().queued, 0);
    in_a_runtime(async { soon(handle.acquire(1)).await.unwrap() });
}
