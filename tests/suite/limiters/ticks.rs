//! Tokens that arrived between two ticks of the timer belong to the waiters.

use buttress::ErrorKind;
use buttress::bulkhead::BulkheadLayer;
use buttress::rate_limit::{Config, Handle, RateLimitLayer};
use tower::{Layer, ServiceExt};

use crate::support::{Ask, Scripted, Waiter, Watch, is_pending, ms, now, soon};

fn limiter(config: Config) -> Handle {
    RateLimitLayer::new(config).unwrap().handle()
}

fn per_second(rate: u32, burst: u32) -> Config {
    Config::new().max_tokens(burst).refill(rate, ms(1000))
}

/// Returns the milliseconds until `waiters` have their tokens.
async fn all_admitted(handle: &Handle, waiters: u32) -> u64 {
    let watch = Watch::start();
    let tasks: Vec<_> = (0..waiters)
        .map(|_| {
            let handle = handle.clone();
            tokio::spawn(async move { handle.acquire(1).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().expect("a wait that was accepted ends with a token");
    }
    watch.ms()
}

#[tokio::test(start_paused = true)]
async fn a_burst_smaller_than_a_tick_brings_the_whole_rate() {
    for rate in [1, 30, 999, 3000, 10_000, 100_000] {
        for burst in [1, 2, 7] {
            let waiters = (rate / 5).clamp(10, 3000);
            let config = per_second(rate, burst).queue(waiters).max_wait(ms(100_000));
            let took = all_admitted(&limiter(config), waiters).await;
            let fair = f64::from(waiters - burst) * 1000.0 / f64::from(rate);
            assert!(
                took as f64 <= fair / 0.95 + 1.0,
                "{rate}/s, burst {burst}: {took} ms, not {fair}"
            );
            assert!(took as f64 >= fair.floor(), "{rate}/s, burst {burst}: {took} ms, not {fair}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_wait_that_was_accepted_ends_in_time() {
    let config = per_second(10_000, 1).max_wait(ms(200));
    assert_eq!(all_admitted(&limiter(config), 1000).await, 100);
}

#[tokio::test(start_paused = true)]
async fn windows_shorter_than_a_tick_bring_the_whole_rate() {
    let (config, period) = (Config::new().max_wait(ms(1000)), ms(1) / 10);
    assert_eq!(all_admitted(&limiter(config.clone().fixed_window(1, period)), 1000).await, 100);
    assert_eq!(all_admitted(&limiter(config.sliding_window(1, period)), 1000).await, 100);
}

#[tokio::test(start_paused = true)]
async fn backpressure_brings_the_whole_rate_too() {
    let (inner, log) = Scripted::new();
    let layer = RateLimitLayer::new(per_second(10_000, 1)).unwrap().backpressure();
    let service = layer.layer(inner);
    let tasks: Vec<_> = (0..1000).map(|n| tokio::spawn(service.clone().oneshot(Ask(n)))).collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(log.at().last(), Some(&100));
}

/// Eight tasks that request again as soon as they are served: fewer than the tokens of a tick.
#[tokio::test(start_paused = true)]
async fn tasks_that_always_ask_get_the_whole_rate_and_no_more() {
    for (rate, burst) in [(1000, 1), (3000, 1), (20_000, 1), (20_000, 7), (100_000, 1)] {
        let handle = limiter(per_second(rate, burst));
        let watch = Watch::start();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (handle, watch) = (handle.clone(), Watch(watch.0));
                tokio::spawn(async move {
                    let mut at = Vec::new();
                    while watch.ms() < 200 {
                        handle.acquire(1).await.unwrap();
                        at.push(watch.ms());
                    }
                    at
                })
            })
            .collect();
        let mut at = Vec::new();
        for task in tasks {
            at.extend(task.await.unwrap());
        }
        at.sort_unstable();
        for (n, at) in at.iter().enumerate() {
            let most = f64::from(burst) + f64::from(rate) * *at as f64 / 1000.0;
            assert!((n + 1) as f64 <= most, "{rate}/s, burst {burst}: number {n} at {at} ms");
        }
        let passed = at.iter().filter(|at| **at < 200).count() as f64;
        assert!(passed >= 0.95 * f64::from(rate) * 0.199, "{rate}/s, burst {burst}: {passed}");
    }
}

/// Tokens that arrived while calls waited are not kept for later calls.
#[tokio::test(start_paused = true)]
async fn what_is_left_when_the_last_waiter_went_is_soon_lost() {
    let handle = limiter(per_second(100_000, 1));
    handle.try_acquire(1).unwrap();
    soon(handle.acquire(1)).await.unwrap();
    assert!(handle.check().is_ok());
    assert!(handle.try_acquire(2).is_err(), "more than the bucket ever holds");
    tokio::time::advance(ms(6)).await;
    handle.try_acquire(1).unwrap();
    assert_eq!(handle.try_acquire(1).unwrap_err().retry_after(), Some(ms(1) / 100));
}

/// In real time: a late tick may bunch tokens, and loses none.
#[test]
fn the_rate_holds_by_the_real_clock() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let handle = limiter(per_second(4000, 1).queue(4000).max_wait(ms(2000)));
        let took = all_admitted(&handle, 4000).await;
        assert!((990..=1250).contains(&took), "{took} ms for a second's worth");
    });
}

/// Every tenth waiter stays; the others are kept without polls, or dropped.
#[tokio::test(start_paused = true)]
async fn waiters_that_are_not_polled_or_dropped_hold_nobody_up() {
    for drops in [false, true] {
        let handle = limiter(per_second(5000, 1).max_wait(ms(200)));
        handle.try_acquire(1).unwrap();
        let mut idle = Vec::new();
        let mut tasks = Vec::new();
        for n in 0..1000 {
            let mut waits = Box::pin({
                let handle = handle.clone();
                async move { handle.acquire(1).await }
            });
            assert!(is_pending(&mut waits));
            if n % 10 < 9 {
                idle.push(waits);
            } else {
                let began = Watch::start();
                tasks.push(tokio::spawn(async move { (waits.await, began.ms()) }));
            }
        }
        if drops {
            idle.clear();
        }
        for task in tasks {
            let (admitted, took) = soon(task).await.unwrap();
            admitted.unwrap();
            assert!(took <= 205, "{took} ms");
        }
    }
}

/// The runtime of the first half stops while they wait.
#[test]
fn waiters_of_a_runtime_that_stopped_hold_nobody_up() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let handle = limiter(per_second(2000, 1).max_wait(ms(100)));
    let stopped = runtime();
    let other = handle.clone();
    stopped.block_on(async move {
        other.try_acquire(1).unwrap();
        for _ in 0..100 {
            let other = other.clone();
            drop(tokio::spawn(async move { other.acquire(1).await }));
        }
        while other.stats().queued < 100 {
            tokio::task::yield_now().await;
        }
    });
    runtime().block_on(async {
        let took = all_admitted(&handle, 90).await;
        assert!(took <= 105, "{took} ms");
    });
    drop(stopped);
}

/// A task that polls late, because its thread was busy, still gets tokens that came in time.
#[tokio::test(start_paused = true)]
async fn a_late_look_does_not_turn_a_token_that_came_in_time_into_a_timeout() {
    let handle = limiter(per_second(10, 1).max_wait(ms(100)));
    handle.try_acquire(1).unwrap();
    let mut waits = Box::pin(handle.acquire(1));
    assert!(is_pending(&mut waits));
    tokio::time::advance(ms(500)).await;
    now(waits).unwrap();
    // A permit has no arrival time: one after the longest wait is too late.
    let config = buttress::bulkhead::Config::new().max_concurrent(1).queue(1).max_wait(ms(100));
    let bulkhead = BulkheadLayer::new(config).unwrap().handle();
    let running = bulkhead.try_acquire().unwrap();
    let mut waits = Box::pin(bulkhead.acquire());
    assert!(is_pending(&mut waits));
    tokio::time::advance(ms(500)).await;
    drop(running);
    assert_eq!(now(waits).unwrap_err().kind(), ErrorKind::QueueTimeout);
}

/// Regression: waiters that left behind a waiter counted as served before it. Its turn seemed to
/// have come, and its poll looped forever.
#[tokio::test(start_paused = true)]
async fn one_that_leaves_behind_a_waiter_does_not_move_it_up() {
    let handle = limiter(Config::new().max_tokens(10).refill(10, ms(1000)).max_wait(ms(60_000)));
    handle.try_acquire(9).unwrap();
    let mut head = Box::pin(handle.acquire(5));
    assert!(is_pending(&mut head));
    let (waiter, mut second) = (Waiter::new(), Box::pin(handle.acquire(1)));
    assert!(waiter.poll(&mut second).is_pending());
    let mut behind = Box::pin(handle.acquire(5));
    assert!(is_pending(&mut behind));
    drop(behind);
    assert!(waiter.poll(&mut second).is_pending());
    tokio::time::advance(ms(499)).await;
    assert_eq!(waiter.wakes(), 0, "its turn is at 500 ms");
    tokio::time::advance(ms(1)).await;
    assert_eq!(waiter.wakes(), 1);
    now(second).unwrap();
}
