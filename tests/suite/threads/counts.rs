//! Tokens, openings and retries are counted exactly once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::rate_limit::{Config, RateLimitLayer};
use buttress::retry::{self, Backoff, Budget, RetryLayer};
use buttress::{CircuitState, Clock, Event, Name};
use tokio::task::yield_now;
use tower::Layer;

use super::run;
use crate::support::{AppError, Ask, Scripted, Waiter, call, ms};

const DAY: u64 = 86_400_000;

/// One token per day, and the test takes a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_limiter_gives_each_token_once() {
    let config = Config::new().max_tokens(40_000).refill(1, ms(DAY));
    let layer = RateLimitLayer::new(config).unwrap();
    let handle = layer.handle();
    let spent = Arc::new(AtomicU32::new(0));
    run(8, |task| {
        let (handle, spent) = (handle.clone(), spent.clone());
        let mut idle = layer.clone().backpressure().layer(Scripted::new().0);
        async move {
            for round in 0..10_000 {
                let cost = 1 + (task + round) % 3;
                if handle.try_acquire(cost).is_ok() {
                    spent.fetch_add(cost, Ordering::SeqCst);
                }
                if round % 7 == 0 {
                    // Reserves a token if there is one, and releases it.
                    let _ = Waiter::new().poll_ready(&mut idle.clone());
                    yield_now().await;
                    let _ = Waiter::new().poll_ready(&mut idle);
                    idle = idle.clone();
                }
            }
        }
    })
    .await;
    let spent = spent.load(Ordering::SeqCst);
    // A reservation may have blocked the last ones.
    let left = (0..100_000).take_while(|_| handle.try_acquire(1).is_ok()).count() as u32;
    assert_eq!(spent + left, 40_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_tasks_get_exactly_the_tokens_there_are() {
    for config in [
        Config::new().max_tokens(8000).refill(1, ms(DAY)),
        Config::new().fixed_window(8000, ms(DAY)),
        Config::new().sliding_window(8000, ms(DAY)),
    ] {
        let handle = RateLimitLayer::new(config.count_calls(true)).unwrap().handle();
        let admitted = Arc::new(AtomicU32::new(0));
        run(8, |_| {
            let (handle, admitted) = (handle.clone(), admitted.clone());
            async move {
                for round in 0..4000 {
                    if handle.try_acquire(1).is_ok() {
                        admitted.fetch_add(1, Ordering::SeqCst);
                    }
                    if round % 16 == 0 {
                        yield_now().await;
                    }
                }
            }
        })
        .await;
        assert_eq!(admitted.load(Ordering::SeqCst), 8000);
        let stats = handle.stats();
        assert_eq!((stats.admitted, stats.refused, stats.available), (Some(8000), 24_000, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_failures_opens_the_circuit_once() {
    let config = || circuit_breaker::Config::new().open_for(ms(DAY)).min_calls(50);
    let ways = [
        config().consecutive_failures(50),
        config().failure_rate(0.5),
        config().failure_rate(0.5).time_window(ms(DAY)),
    ];
    // The race lasts only a moment, so it runs many times.
    for config in ways.iter().cycle().take(60) {
        let opened = Arc::new(AtomicUsize::new(0));
        let observer = opened.clone();
        let observer = move |_: Name, event: &Event| {
            if matches!(event, Event::CircuitChanged { to: CircuitState::Open, .. }) {
                observer.fetch_add(1, Ordering::SeqCst);
            }
        };
        let config = config.clone().observer(observer).count_calls(true);
        let handle = CircuitBreakerLayer::new(config).unwrap().handle();
        let before = handle.generation();
        run(16, |_| {
            let handle = handle.clone();
            async move {
                for _ in 0..200 {
                    // Many calls are in flight when the circuit opens, and end afterwards.
                    if let Ok(admission) = handle.try_acquire() {
                        yield_now().await;
                        admission.failure();
                    }
                }
            }
        })
        .await;
        assert_eq!(opened.load(Ordering::SeqCst), 1);
        let stats = handle.stats();
        assert_eq!((stats.state, stats.opened, stats.transitions), (CircuitState::Open, 1, 1));
        assert_eq!(handle.generation(), before.wrapping_add(1));
        assert_eq!(stats.failures + stats.refused, 16 * 200);
        assert_eq!(stats.admitted, Some(stats.failures));
        assert!((50..50 + 16).contains(&stats.failures), "those in progress, no more: {stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_budget_that_threads_share_pays_no_more_than_it_has() {
    let budget = Budget::new(0.2, 3).unwrap();
    let now = Clock::default().now();
    let paid = Arc::new(AtomicU32::new(0));
    run(8, |_| {
        let (budget, paid) = (budget.clone(), paid.clone());
        async move {
            for round in 0..5000 {
                budget.deposit();
                if budget.try_withdraw(now) {
                    paid.fetch_add(1, Ordering::SeqCst);
                }
                if round % 16 == 0 {
                    yield_now().await;
                }
            }
        }
    })
    .await;
    let paid = paid.load(Ordering::SeqCst);
    let left = (0..100_000).take_while(|_| budget.try_withdraw(now)).count() as u32;
    assert_eq!(paid + left, 40_000 / 5 + 3 * 10, "a fifth of the calls, and three a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn retries_of_many_services_stay_within_their_budget() {
    let budget = Budget::new(0.2, 0).unwrap();
    let config = retry::Config::new().attempts(50).backoff(Backoff::none()).budget(budget);
    let layer = RetryLayer::new(config.count_calls(true)).unwrap();
    let attempts = Arc::new(AtomicU32::new(0));
    run(8, |_| {
        let counted = attempts.clone();
        let mut service = layer.layer(tower::service_fn(move |_: Ask| {
            counted.fetch_add(1, Ordering::SeqCst);
            async {
                yield_now().await;
                Err::<u32, _>(AppError::Broken("down"))
            }
        }));
        async move {
            for n in 0..200 {
                assert!(call(&mut service, Ask(n)).await.is_err());
            }
        }
    })
    .await;
    let stats = layer.handle().stats();
    assert_eq!(stats.calls, Some(1600));
    assert_eq!(u64::from(attempts.load(Ordering::SeqCst)), 1600 + stats.retries);
    assert!((1..=320).contains(&stats.retries), "a fifth of the calls: {stats:?}");
}
