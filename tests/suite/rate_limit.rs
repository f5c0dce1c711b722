//! Rate limiter: which calls it admits, when the next can pass, and which waiters it wakes.

mod line;
mod plans;
mod queued;
mod refund;
mod waiting;

use buttress::ErrorKind;
use buttress::rate_limit::{Config, Handle, RateLimitLayer};
use tower::{Layer, Service};

use crate::support::{
    AppError, Ask, Log, Scripted, Waiter, Watch, begin, behind, call, ms, now, soon,
};

fn limiter(config: Config) -> RateLimitLayer {
    RateLimitLayer::new(config).unwrap()
}

/// One token, and another every 100 ms.
fn one_in_100_ms() -> Config {
    Config::new().max_tokens(1).refill(1, ms(100))
}

/// Takes `tokens` as soon as the first of them is free, which is in `wait` milliseconds.
async fn free_after(handle: &Handle, tokens: u32, wait: u64) {
    tokio::time::advance(ms(wait - 1)).await;
    assert!(handle.try_acquire(1).is_err());
    tokio::time::advance(ms(1)).await;
    handle.try_acquire(tokens).unwrap();
}

/// A burst of 40, and 20 per millisecond.
fn twenty_thousand_a_second() -> RateLimitLayer {
    limiter(Config::new().max_tokens(40).refill(20_000, ms(1000)))
}

/// Returns the answers to `calls` calls, each on a separate task, in the order in which the tasks
/// began.
async fn answers_in_turn<S>(service: &S, calls: u32) -> Vec<u32>
where
    S: Service<Ask, Response = u32, Error = AppError, Future: Send> + Clone + Send + 'static,
{
    let tasks: Vec<_> = (0..calls)
        .map(|n| {
            let mut service = service.clone();
            tokio::spawn(async move { call(&mut service, Ask(n)).await.unwrap() })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(soon(task).await.unwrap());
    }
    answers
}

/// Returns how many calls of eight tasks pass in a second: the burst, and the tokens of each
/// millisecond except the last.
async fn passed_in_a_second<S>(service: S, log: &Log) -> usize
where
    S: Service<Ask, Error = AppError, Future: Send> + Clone + Send + 'static,
{
    let watch = Watch::start();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (mut service, watch) = (service.clone(), Watch(watch.0));
            tokio::spawn(async move {
                while watch.ms() < 1000 {
                    call(&mut service, Ask(0)).await.map(drop).unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    log.at().iter().filter(|at| **at < 1000).count()
}

#[tokio::test(start_paused = true)]
async fn the_default_passes_ten_at_once_and_then_one_every_100_ms() {
    let layer = RateLimitLayer::default();
    let (mut service, log) = behind(&layer, []);
    for n in 0..10 {
        assert_eq!(layer.handle().available(), 10 - n);
        assert!(now(begin(&mut service, Ask(0))).is_ok());
    }
    let error = now(begin(&mut service, Ask(0))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::RateLimited));
    assert_eq!(error.refusal().retry_after(), Some(ms(100)));
    assert_eq!(error.to_string(), "rate limiter exhausted (10 per second; retry in 100ms)");
    tokio::time::advance(ms(99)).await;
    let error = now(begin(&mut service, Ask(0))).unwrap_err();
    assert_eq!(error.refusal().retry_after(), Some(ms(1)));
    tokio::time::advance(ms(1)).await;
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    assert!(now(begin(&mut service, Ask(0))).is_err(), "one token, not two");
    assert_eq!((log.calls(), layer.handle().stats().refused), (11, 3));
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_takes_nothing() {
    let handle = limiter(one_in_100_ms()).handle();
    handle.try_acquire(1).unwrap();
    for left in (10..=90).rev().step_by(10) {
        tokio::time::advance(ms(10)).await;
        assert_eq!(handle.try_acquire(1).unwrap_err().retry_after(), Some(ms(left)));
    }
    tokio::time::advance(ms(10)).await;
    handle.try_acquire(1).unwrap();
}

#[tokio::test(start_paused = true)]
async fn asking_what_is_available_takes_nothing() {
    let handle = limiter(Config::new().max_tokens(2)).handle();
    for _ in 0..5 {
        assert_eq!(handle.available(), 2);
        assert_eq!(handle.stats().full_in, ms(0));
    }
    handle.try_acquire(2).unwrap();
    assert_eq!((handle.available(), handle.stats().full_in), (0, ms(200)));
    tokio::time::advance(ms(199)).await;
    assert_eq!((handle.available(), handle.stats().full_in), (1, ms(1)));
}

#[tokio::test(start_paused = true)]
async fn an_idle_time_fills_the_bucket_and_no_more() {
    let handle = limiter(Config::new()).handle();
    handle.try_acquire(10).unwrap();
    tokio::time::advance(ms(86_400_000)).await;
    assert_eq!(handle.available(), 10);
    handle.try_acquire(10).unwrap();
    assert!(handle.try_acquire(1).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_costs_what_the_layer_says() {
    let layer = limiter(Config::new());
    let (mut service, log) = behind(&layer.clone().cost(|request: &Ask| request.0), []);
    assert!(now(begin(&mut service, Ask(7))).is_ok());
    let error = now(begin(&mut service, Ask(5))).unwrap_err();
    assert_eq!(error.refusal().retry_after(), Some(ms(200)), "two are missing");
    assert!(now(begin(&mut service, Ask(3))).is_ok(), "a cheaper one passes");
    assert_eq!(layer.handle().available(), 0);
    tokio::time::advance(ms(10_000)).await;
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    assert_eq!(layer.handle().available(), 10, "a cost of 0 takes nothing");
    let error = now(begin(&mut service, Ask(11))).unwrap_err();
    assert_eq!(error.refusal().retry_after(), None, "never");
    assert!(error.to_string().contains("costs more than the limiter can ever hold"));
    assert_eq!(log.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_live_change_keeps_the_level() {
    let handle = limiter(Config::new()).handle();
    handle.try_acquire(6).unwrap();
    handle.reconfigure(&Config::new().max_tokens(100).refill(100, ms(1000))).unwrap();
    assert_eq!(handle.available(), 4, "as before, in a larger bucket");
    tokio::time::advance(ms(10)).await;
    assert_eq!(handle.available(), 5, "at the new rate");
    handle.reconfigure(&Config::new().max_tokens(3)).unwrap();
    assert_eq!(handle.available(), 3, "no more than fits");
    handle.try_acquire(3).unwrap();
    handle.reconfigure(&Config::new().max_tokens(50)).unwrap();
    assert_eq!(handle.available(), 0, "a change is not a way to refill");
    let error = handle.reconfigure(&Config::new().fixed_window(3, ms(10))).unwrap_err();
    assert_eq!(error.field(), "policy");
    let stats = handle.stats();
    assert_eq!((stats.max_tokens, stats.refill_tokens, stats.refill_period), (50, 10, ms(1000)));
}

#[tokio::test(start_paused = true)]
async fn a_fixed_window_starts_over_at_its_border() {
    let handle = limiter(Config::new().fixed_window(2, ms(100))).handle();
    tokio::time::advance(ms(90)).await;
    handle.try_acquire(2).unwrap();
    assert_eq!(handle.try_acquire(1).unwrap_err().retry_after(), Some(ms(10)));
    free_after(&handle, 2, 10).await;
    assert_eq!(handle.try_acquire(1).unwrap_err().retry_after(), Some(ms(100)));
}

#[tokio::test(start_paused = true)]
async fn a_sliding_window_frees_each_call_after_a_whole_period() {
    let handle = limiter(Config::new().sliding_window(2, ms(100))).handle();
    handle.try_acquire(1).unwrap();
    tokio::time::advance(ms(60)).await;
    handle.try_acquire(1).unwrap();
    assert_eq!(handle.try_acquire(1).unwrap_err().retry_after(), Some(ms(40)));
    tokio::time::advance(ms(39)).await;
    assert_eq!(handle.available(), 0);
    tokio::time::advance(ms(1)).await;
    handle.try_acquire(1).unwrap();
    assert_eq!(handle.try_acquire(1).unwrap_err().retry_after(), Some(ms(60)));
}

#[tokio::test(start_paused = true)]
async fn eight_services_of_one_layer_share_the_tokens() {
    let layer = limiter(Config::new().max_tokens(5));
    let admitted = (0..8)
        .filter(|n| now(begin(&mut layer.clone().layer(Scripted::new().0), Ask(*n))).is_ok())
        .count();
    assert_eq!(admitted, 5);
}

#[tokio::test(start_paused = true)]
async fn what_poll_ready_saw_is_what_the_call_gets() {
    let layer = limiter(one_in_100_ms());
    let (mut service, log) = behind(&layer, []);
    layer.handle().try_acquire(1).unwrap();
    log.block();
    assert!(Waiter::new().poll_ready(&mut service).is_ready(), "over a pending service too");
    // A token is available by now, but the service was not polled ready.
    tokio::time::advance(ms(100)).await;
    let mut clone = service.clone();
    let refused: Result<u32, AppError> = now(tower::Service::call(&mut service, Ask(0)));
    assert_eq!(refused.unwrap_err().refusal().retry_after(), Some(ms(0)), "as of now");
    assert_eq!(layer.handle().available(), 1);
    log.unblock();
    assert_eq!(now(begin(&mut clone, Ask(0))), Ok(1), "a clone does not copy the refusal");
}

#[tokio::test(start_paused = true)]
async fn two_that_were_ready_for_the_last_token_get_one() {
    let (inner, log) = Scripted::new();
    let layer = limiter(one_in_100_ms());
    let (mut a, mut b) = (layer.layer(inner.clone()), layer.layer(inner));
    assert!(Waiter::new().poll_ready(&mut a).is_ready());
    assert!(Waiter::new().poll_ready(&mut b).is_ready());
    assert!(now(tower::Service::call(&mut a, Ask(0))).is_ok());
    let error = now(tower::Service::call(&mut b, Ask(0))).unwrap_err();
    assert_eq!(error.refusal().retry_after(), Some(ms(100)));
    assert_eq!(log.calls(), 1);
}
