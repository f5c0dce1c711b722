//! What holds when threads really meet: four workers, more tasks than permits, tokens or places, and
//! nothing that depends on time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use buttress::bulkhead::{self, BulkheadLayer, KeyedBulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::retry::{self, Backoff, Budget, RetryLayer};
use buttress::{CircuitState, Clock, ErrorKind, Event, Name};
use tokio::task::yield_now;
use tower::Layer;

use crate::support::{AppError, Ask, Scripted, Waiter, call, ms, soon};

const DAY: u64 = 86_400_000;

/// Runs `tasks` tasks to their ends. One that hangs fails the test.
async fn run<F>(tasks: u32, task: impl Fn(u32) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let tasks: Vec<_> = (0..tasks).map(|n| tokio::spawn(task(n))).collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
}

/// How many are inside, and the most there ever were.
#[derive(Default)]
struct Inside {
    now: AtomicU32,
    peak: AtomicU32,
}

impl Inside {
    fn enter(&self) {
        let inside = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(inside, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bulkhead_with_a_queue_and_cancels_keeps_its_limit_and_gets_every_permit_back() {
    let config = bulkhead::Config::new().max_concurrent(3).queue(1000);
    let handle = BulkheadLayer::new(config).unwrap().handle();
    let inside = Arc::new(Inside::default());
    let cancelled = Arc::new(AtomicUsize::new(0));
    run(16, |task| {
        let (handle, inside, cancelled) = (handle.clone(), inside.clone(), cancelled.clone());
        async move {
            for round in 0..500 {
                let permit = if (task + round) % 5 == 0 {
                    tokio::select! {
                        biased;
                        permit = handle.acquire() => Some(permit.unwrap()),
                        () = yield_now() => None,
                    }
                } else {
                    Some(handle.acquire().await.unwrap())
                };
                let Some(permit) = permit else {
                    cancelled.fetch_add(1, Ordering::SeqCst);
                    continue;
                };
                inside.enter();
                if round % 3 > 0 {
                    yield_now().await;
                }
                inside.leave();
                drop(permit);
            }
        }
    })
    .await;
    assert_eq!(inside.peak.load(Ordering::SeqCst), 3, "reached, and never passed");
    assert!(cancelled.load(Ordering::SeqCst) > 0, "some went away from the queue");
    let stats = handle.stats();
    assert_eq!((stats.active, stats.queued, stats.peak_active), (0, 0, 3));
    let permits: Vec<_> = (0..3).map(|_| handle.try_acquire().unwrap()).collect();
    assert!(handle.try_acquire().is_err());
    drop(permits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bulkhead_resized_all_the_while_loses_nobody() {
    let config = bulkhead::Config::new().max_concurrent(2).queue(1000);
    let handle = BulkheadLayer::new(config).unwrap().handle();
    let inside = Arc::new(Inside::default());
    run(16, |task| {
        let (handle, inside) = (handle.clone(), inside.clone());
        async move {
            for round in 0..500 {
                let permit = handle.acquire().await.unwrap();
                inside.enter();
                yield_now().await;
                inside.leave();
                drop(permit);
                if task == 0 {
                    handle.resize(1 + round % 4).unwrap();
                }
            }
        }
    })
    .await;
    assert!(inside.peak.load(Ordering::SeqCst) <= 4, "the largest limit there was");
    assert_eq!((handle.stats().active, handle.stats().queued), (0, 0));
}

/// A token comes back in a day, and the test is over in a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_limiter_gives_each_token_once() {
    let config = rate_limit::Config::new().max_tokens(4000).refill(1, ms(DAY));
    let layer = RateLimitLayer::new(config).unwrap();
    let handle = layer.handle();
    let spent = Arc::new(AtomicU32::new(0));
    run(8, |task| {
        let (handle, spent) = (handle.clone(), spent.clone());
        let mut idle = layer.clone().backpressure().layer(Scripted::new().0);
        async move {
            for round in 0..1000 {
                let cost = 1 + (task + round) % 3;
                if handle.try_acquire(cost).is_ok() {
                    spent.fetch_add(cost, Ordering::SeqCst);
                }
                if round % 7 == 0 {
                    // Reserves a token if there is one, and gives it back.
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
    // A reservation may have stood in the way of the last ones.
    let left = (0..).take_while(|_| handle.try_acquire(1).is_ok()).count() as u32;
    assert_eq!(spent + left, 4000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_tasks_get_exactly_the_tokens_there_are() {
    for config in [
        rate_limit::Config::new().max_tokens(1000).refill(1, ms(DAY)),
        rate_limit::Config::new().fixed_window(1000, ms(DAY)),
        rate_limit::Config::new().sliding_window(1000, ms(DAY)),
    ] {
        let handle = RateLimitLayer::new(config.count_calls(true)).unwrap().handle();
        let admitted = Arc::new(AtomicU32::new(0));
        run(8, |_| {
            let (handle, admitted) = (handle.clone(), admitted.clone());
            async move {
                for round in 0..500 {
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
        assert_eq!(admitted.load(Ordering::SeqCst), 1000);
        let stats = handle.stats();
        assert_eq!((stats.admitted, stats.refused, stats.available), (Some(1000), 3000, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_failures_opens_the_circuit_once() {
    let config = || circuit_breaker::Config::new().open_for(ms(DAY)).min_calls(50);
    for config in [
        config().consecutive_failures(50),
        config().failure_rate(0.5),
        config().failure_rate(0.5).time_window(ms(DAY)),
    ] {
        let opened = Arc::new(AtomicUsize::new(0));
        let hears = opened.clone();
        let observer = move |_: Name, event: &Event| {
            if matches!(event, Event::CircuitChanged { to: CircuitState::Open, .. }) {
                hears.fetch_add(1, Ordering::SeqCst);
            }
        };
        let config = config.observer(observer).count_calls(true);
        let handle = CircuitBreakerLayer::new(config).unwrap().handle();
        run(16, |_| {
            let handle = handle.clone();
            async move {
                for _ in 0..200 {
                    // Many are under way when it opens, and end afterwards.
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
        assert_eq!(stats.failures + stats.refused, 16 * 200);
        assert_eq!(stats.admitted, Some(stats.failures));
        assert!((50..50 + 16).contains(&stats.failures), "those under way, no more: {stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_never_pass_their_cap_nor_a_key_its_limit() {
    const KEYS: u32 = 200;
    const CAP: usize = 50;
    let config = bulkhead::Config::new().max_concurrent(1);
    let layer = KeyedBulkheadLayer::new(config, CAP, |ask: &Ask| ask.0).unwrap();
    let handle = layer.handle();
    let inside: Arc<Vec<_>> = Arc::new((0..KEYS).map(|_| Inside::default()).collect());
    let most = Arc::new(AtomicUsize::new(0));
    run(8, |task| {
        let (handle, inside, most) = (handle.clone(), inside.clone(), most.clone());
        async move {
            for round in 0..1000 {
                // Two tasks at a time have the same key; the others turn all keys over.
                let key = (round * 7 + task / 2 * 31) % KEYS;
                match handle.try_acquire(&key) {
                    Ok(permit) => {
                        inside[key as usize].enter();
                        yield_now().await;
                        inside[key as usize].leave();
                        drop(permit);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::BulkheadFull);
                        yield_now().await;
                    }
                }
                most.fetch_max(handle.stats().keys, Ordering::SeqCst);
            }
        }
    })
    .await;
    assert!(inside.iter().all(|key| key.peak.load(Ordering::SeqCst) == 1));
    assert_eq!(most.load(Ordering::SeqCst), CAP, "reached, and never passed");
    assert_eq!(handle.stats().too_many_keys, 0, "eight calls cannot fill fifty places");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_budget_that_threads_share_pays_no_more_than_it_has() {
    let budget = Budget::new(0.2, 3).unwrap();
    let now = Clock::default().now();
    let paid = Arc::new(AtomicU32::new(0));
    run(8, |_| {
        let (budget, paid) = (budget.clone(), paid.clone());
        async move {
            for round in 0..500 {
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
    let left = (0..).take_while(|_| budget.try_withdraw(now)).count() as u32;
    assert_eq!(paid + left, 4000 / 5 + 3 * 10, "a fifth of the calls, and three a second");
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
