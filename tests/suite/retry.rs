//! Retry: when attempts are made, when they end, and what result the caller gets.

mod between;
mod whether;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::Rng;
use buttress::retry::{Backoff, Config, Jitter, RetryLayer};
use tower::{Layer, Service, service_fn};

use crate::support::{
    AppError, Ask, Scripted, Step, Waiter, Watch, begin, behind, call, is_pending, ms, now, soon,
};

/// 100 ms, 200 ms, 400 ms, .. without jitter.
fn doubling() -> Backoff {
    Backoff::exponential(ms(100)).jitter(Jitter::None)
}

fn retry(config: Config) -> RetryLayer {
    RetryLayer::new(config).unwrap()
}

/// Fails with `error`, then answers with 1.
fn failing_once_with(
    error: AppError,
) -> impl Service<Ask, Response = u32, Error = AppError> + Clone {
    let error = Arc::new(Mutex::new(Some(error)));
    tower::service_fn(move |_| std::future::ready(error.lock().unwrap().take().map_or(Ok(1), Err)))
}

/// The error of a limiter further in whose next token comes after `wait`.
fn limited(wait: Duration) -> AppError {
    use buttress::rate_limit::{Config, RateLimitLayer};
    let limiter = RateLimitLayer::new(Config::new().max_tokens(1).refill(1, wait)).unwrap();
    limiter.handle().try_acquire(1).unwrap();
    limiter.handle().try_acquire(1).unwrap_err().into()
}

#[tokio::test(start_paused = true)]
async fn attempts_are_made_at_0_100_and_300_ms_without_jitter() {
    let (mut service, log) = behind(&retry(Config::new().backoff(doubling())), []);
    log.always(Step::Fail);
    let watch = Watch::start();
    let result = call(&mut service, Ask(0)).await;
    assert_eq!(result, Err(AppError::Broken("scripted failure")), "the last error, unchanged");
    assert_eq!(log.at(), [0, 100, 300]);
    assert_eq!(watch.ms(), 300, "the last failure is returned immediately");
    let stats = service.handle().stats();
    assert_eq!((stats.retries, stats.exhausted, stats.attempts), (2, 1, 3));
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_at_its_instant_and_not_before() {
    let (mut service, log) = behind(&retry(Config::new().backoff(doubling())), [Step::Fail]);
    let waiter = Waiter::new();
    let mut response = begin(&mut service, Ask(0));
    assert!(waiter.poll(&mut response).is_pending());
    tokio::time::advance(ms(99)).await;
    assert_eq!((waiter.wakes(), is_pending(&mut response), log.calls()), (0, true, 1));
    assert!(waiter.poll(&mut response).is_pending());
    tokio::time::advance(ms(1)).await;
    assert_eq!(waiter.wakes(), 1);
    assert_eq!(now(response), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_takes_its_time_and_the_wait_begins_when_it_has_failed() {
    let (mut service, log) = behind(
        &retry(Config::new().backoff(doubling())),
        [Step::FailAfter(30), Step::AnswerAfter(5)],
    );
    let watch = Watch::start();
    assert_eq!(call(&mut service, Ask(0)).await, Ok(2));
    assert_eq!(log.at(), [0, 130]);
    assert_eq!(watch.ms(), 135);
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_a_floor_under_the_wait() {
    for (hint, second_at) in [(70, 100), (100, 100), (250, 250)] {
        let inner = failing_once_with(limited(ms(hint)));
        let watch = Watch::start();
        let mut service = retry(Config::new().backoff(doubling())).layer(inner);
        assert_eq!(call(&mut service, Ask(0)).await, Ok(1));
        assert_eq!(watch.ms(), second_at);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_the_longest_is_not_waited_for() {
    for (longest, waited) in [(300, Some(300)), (299, None)] {
        let inner = failing_once_with(limited(ms(300)));
        let watch = Watch::start();
        let mut service = retry(Config::new().max_hint(ms(longest))).layer(inner);
        let result = call(&mut service, Ask(0)).await;
        match waited {
            Some(waited) => assert_eq!((result, watch.ms()), (Ok(1), waited)),
            None => assert_eq!((result.is_err(), watch.ms()), (true, 0)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_when_the_total_time_is_up() {
    // The third attempt would begin at 300 ms.
    for (total, attempts) in [(300, 2), (301, 3)] {
        let (inner, log) = Scripted::new();
        log.always(Step::Fail);
        let config = Config::new().backoff(doubling()).total_time(ms(total));
        let watch = Watch::start();
        assert!(call(&mut retry(config).layer(inner), Ask(0)).await.is_err());
        assert_eq!(log.calls(), attempts, "within {total} ms");
        assert_eq!(watch.ms(), if attempts == 2 { 100 } else { 300 }, "no wait for nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn the_total_time_counts_from_the_call_not_from_the_first_poll() {
    let config = Config::new().backoff(doubling()).total_time(ms(150));
    let (mut service, log) = behind(&retry(config), []);
    log.always(Step::Fail);
    let response = begin(&mut service, Ask(0));
    tokio::time::advance(ms(50)).await;
    assert!(now(response).is_err(), "a second attempt would begin at 150 ms");
    assert_eq!(log.calls(), 1);
}

#[test]
fn without_a_wait_no_timer_is_touched_so_no_runtime_is_needed() {
    let (mut service, _) =
        behind(&retry(Config::new().backoff(Backoff::none())), [Step::Fail, Step::Fail]);
    let mut task = tokio_test::task::spawn(begin(&mut service, Ask(0)));
    tokio_test::assert_ready_eq!(task.poll(), Ok(3));
    assert!(!task.is_woken());
}

#[tokio::test(start_paused = true)]
async fn jitter_stays_below_the_wait_and_repeats_with_its_seed() {
    let waits = |seed| async move {
        let (inner, log) = Scripted::new();
        log.always(Step::Fail);
        let backoff = Backoff::exponential(ms(100));
        let config = Config::new().attempts(6).backoff(backoff).rng(Rng::seeded(seed));
        assert!(call(&mut retry(config).layer(inner), Ask(0)).await.is_err());
        log.at().windows(2).map(|at| at[1] - at[0]).collect::<Vec<_>>()
    };
    let seven = waits(7).await;
    assert_eq!(seven, waits(7).await);
    assert_ne!(seven, waits(8).await);
    for (wait, most) in seven.iter().zip([100, 200, 400, 800, 1600]) {
        // tokio's timers round up to a millisecond.
        assert!(*wait <= most, "{wait} of {most}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_change_counts_from_the_next_failure() {
    let layer = retry(Config::new().backoff(doubling()));
    let (mut service, log) = behind(&layer, []);
    log.always(Step::Fail);
    let mut response = begin(&mut service, Ask(0));
    assert!(is_pending(&mut response));
    layer.handle().reconfigure(&Config::new().attempts(2).backoff(doubling())).unwrap();
    assert!(soon(response).await.is_err());
    assert_eq!(log.at(), [0, 100], "two attempts now");
    let refused = layer.handle().reconfigure(&Config::new().attempts(0)).unwrap_err();
    assert_eq!(refused.field(), "attempts");
    assert_eq!(layer.handle().stats().attempts, 2, "a bad change changes nothing");
}

#[tokio::test(start_paused = true)]
async fn without_tower_it_runs_an_operation() {
    let layer = retry(Config::new().backoff(doubling()));
    let watch = Watch::start();
    let numbers = Mutex::new(Vec::new());
    let result: Result<(), AppError> = layer
        .run(async |n| {
            numbers.lock().unwrap().push((n, watch.ms()));
            Err(AppError::Broken("no"))
        })
        .await;
    assert_eq!(result, Err(AppError::Broken("no")));
    assert_eq!(*numbers.lock().unwrap(), [(1, 0), (2, 100), (3, 300)]);
}

#[tokio::test(start_paused = true)]
async fn one_clone_of_the_service_is_made_for_a_call_that_succeeds_and_none_for_one_attempt() {
    for (attempts, clones) in [(3, 1), (1, 0)] {
        let (mut service, log) = behind(&retry(Config::new().attempts(attempts)), []);
        assert!(now(begin(&mut service, Ask(0))).is_ok());
        assert_eq!(log.clones(), clones);
    }
}

/// Regression: a `Drop` implementation of the future kept it from borrowing what its request
/// borrows.
#[test]
fn a_future_may_stand_in_front_of_what_its_request_borrows() {
    let length = service_fn(|text: &str| std::future::ready(Ok::<_, buttress::Error>(text.len())));
    let mut service = RetryLayer::default().layer(length);
    let mut slots = Vec::new();
    let text = String::from("four");
    slots.push(service.call(text.as_str()));
    assert_eq!(slots.pop().map(now), Some(Ok(4)));
}
