//! The time between two attempts.

use std::sync::Arc;

use buttress::retry::{Backoff, Config};
use buttress::{AnyError, Event, GaveUp};
use tower::Layer;

use super::{doubling, retry};
use crate::support::{
    AppError, Ask, Events, Scripted, Step, Waiter, begin, behind, is_pending, ms, now, panic_of,
    soon,
};

/// The inner future panics when it is polled after its end.
#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_dropped_and_not_polled_while_the_next_one_waits() {
    let (mut service, log) = behind(&retry(Config::new().backoff(doubling())), [Step::Fail]);
    let mut response = begin(&mut service, Ask(0));
    for _ in 0..3 {
        assert!(is_pending(&mut response));
    }
    assert_eq!((log.polls(), log.live()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn dropped_while_it_waits_it_makes_no_other_attempt() {
    let layer = retry(Config::new().backoff(doubling()));
    let (mut service, log) = behind(&layer, []);
    log.always(Step::Fail);
    let waiter = Waiter::new();
    let mut response = begin(&mut service, Ask(0));
    assert!(waiter.poll(&mut response).is_pending());
    drop(response);
    tokio::time::advance(ms(1000)).await;
    assert_eq!((waiter.wakes(), log.calls()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_next_attempt_waits_until_the_service_is_ready() {
    let (mut service, log) = behind(&retry(Config::new().backoff(Backoff::none())), [Step::Fail]);
    let waiter = Waiter::new();
    let mut response = begin(&mut service, Ask(0));
    log.block();
    assert!(waiter.poll(&mut response).is_pending());
    tokio::time::advance(ms(5)).await;
    assert_eq!((waiter.wakes(), log.calls()), (0, 1));
    log.unblock();
    assert_eq!(waiter.wakes(), 1);
    assert_eq!(now(response), Ok(2));
    assert_eq!(log.at(), [0, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_get_ready_again_ends_it_with_that_error() {
    let (mut service, log) = behind(&retry(Config::new().backoff(doubling())), [Step::Fail]);
    let mut response = begin(&mut service, Ask(0));
    assert!(is_pending(&mut response));
    log.fail_ready();
    assert_eq!(soon(response).await, Err(AppError::Broken("not ready")));
}

/// Regression: an attempt that was never made was counted as a retry, and no event reported the end
/// of the call.
#[tokio::test(start_paused = true)]
async fn retries_are_attempts_that_were_made_and_the_others_are_counted_apart() {
    let events = Events::default();
    let retrying = |attempt| Event::Retrying { attempt, delay: ms(100) };
    let gave_up = |attempts, reason| Event::RetriesExhausted { attempts, reason };
    let layer = retry(Config::new().backoff(Backoff::fixed(ms(100))).observer(events.clone()));
    let counts = || {
        let stats = layer.handle().stats();
        (stats.retries, stats.not_made, stats.exhausted)
    };

    let (mut service, log) = behind(&layer, []);
    log.always(Step::Fail);
    let mut response = begin(&mut service, Ask(0));
    assert!(is_pending(&mut response));
    assert_eq!(counts(), (0, 0, 0), "it waits");
    tokio::time::advance(ms(100)).await;
    assert!(is_pending(&mut response));
    assert_eq!(counts(), (1, 0, 0));
    log.fail_ready();
    assert_eq!(soon(response).await, Err(AppError::Broken("not ready")));
    assert_eq!(counts(), (1, 1, 1));
    assert_eq!(events.take(), [retrying(1), retrying(2), gave_up(2, GaveUp::NotReady)]);

    // Dropped while it waits, and while the service is not ready.
    log.unblock();
    for blocked in [false, true] {
        let mut response = begin(&mut service, Ask(0));
        assert!(is_pending(&mut response));
        if blocked {
            log.block();
            tokio::time::advance(ms(100)).await;
            assert!(is_pending(&mut response));
        }
        drop(response);
        assert_eq!(counts(), (1, 2 + u64::from(blocked), 1));
        assert_eq!(events.take(), [retrying(1)]);
    }
    log.unblock();
    log.then([Step::Fail, Step::PanicInCall]);
    let mut response = begin(&mut service, Ask(0));
    assert!(is_pending(&mut response));
    tokio::time::advance(ms(100)).await;
    panic_of(|| is_pending(&mut response));
    drop(response);
    assert_eq!(counts(), (2, 3, 1), "its call was made");

    let layer = retry(Config::new().attempts(2).backoff(Backoff::fixed(ms(100))));
    for (dropped, retries, not_made) in [(true, 0, 1), (false, 1, 1)] {
        let mut run = Box::pin(layer.run(async |_| Err::<u32, _>(AppError::Broken("no"))));
        assert!(is_pending(&mut run));
        if dropped {
            drop(run);
        } else {
            assert!(soon(run).await.is_err());
        }
        let stats = layer.handle().stats();
        assert_eq!((stats.retries, stats.not_made), (retries, not_made), "without tower");
    }
}

/// Regression: `run` held the failed result, e.g. a connection, during its wait.
#[tokio::test(start_paused = true)]
async fn a_failed_result_is_dropped_before_the_wait() {
    let layer = retry(Config::new().backoff(Backoff::fixed(ms(100)))).classify(AnyError);
    let connection = Arc::new(());
    let mut run = Box::pin(layer.run(async |_| Err::<(), _>(connection.clone())));
    assert!(is_pending(&mut run));
    assert_eq!(Arc::strong_count(&connection), 1);
    drop(run);
    let failing = connection.clone();
    let mut service = layer
        .layer(tower::service_fn(move |_: Ask| std::future::ready(Err::<(), _>(failing.clone()))));
    let mut response = begin(&mut service, Ask(0));
    assert!(is_pending(&mut response));
    drop(service);
    // One reference is in the copy of the service for the next attempt.
    assert_eq!(Arc::strong_count(&connection), 2);
}

/// Regression: attempts without a wait were one long poll. Nothing else on the thread ran, not even
/// the timeout around them. The service yielded, `run` did not.
#[tokio::test(start_paused = true)]
async fn attempts_that_never_wait_let_other_tasks_run() {
    let layer = retry(Config::new().attempts(1000).backoff(Backoff::none()));
    let other = || tokio::spawn(async {});

    let beside = other();
    assert!(layer.run(async |_| Err::<u32, _>(AppError::Broken("no"))).await.is_err());
    assert!(beside.is_finished(), "beside `run`");

    let (inner, log) = Scripted::new();
    log.always(Step::Fail);
    let beside = other();
    assert!(begin(&mut layer.layer(inner), Ask(0)).await.is_err());
    assert!(beside.is_finished(), "beside the service");
    assert_eq!(log.calls(), 1000);
}
