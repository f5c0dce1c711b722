//! What happens between two attempts.

use buttress::retry::{Backoff, Config};
use tower::Layer;

use super::{doubling, retry};
use crate::support::{AppError, Ask, Scripted, Step, Waiter, begin, is_pending, ms, now, soon};

/// The inner future panics when it is polled after it completed.
#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_dropped_and_not_polled_while_the_next_one_waits() {
    let (inner, log) = Scripted::new();
    log.then([Step::Fail]);
    let mut service = retry(Config::new().backoff(doubling())).layer(inner);
    let mut response = begin(&mut service, Ask(0));
    for _ in 0..3 {
        assert!(is_pending(&mut response));
    }
    assert_eq!((log.polls(), log.live()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn dropped_while_it_waits_it_makes_no_other_attempt() {
    let (inner, log) = Scripted::new();
    log.always(Step::Fail);
    let layer = retry(Config::new().backoff(doubling()));
    let mut service = layer.layer(inner);
    let waiter = Waiter::new();
    let mut response = begin(&mut service, Ask(0));
    assert!(waiter.poll(&mut response).is_pending());
    drop(response);
    tokio::time::advance(ms(1000)).await;
    assert_eq!((waiter.wakes(), log.calls()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_next_attempt_waits_until_the_service_is_ready() {
    let (inner, log) = Scripted::new();
    log.then([Step::Fail]);
    let mut service = retry(Config::new().backoff(Backoff::none())).layer(inner);
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
    let (inner, log) = Scripted::new();
    log.then([Step::Fail]);
    let mut service = retry(Config::new().backoff(doubling())).layer(inner);
    let mut response = begin(&mut service, Ask(0));
    assert!(is_pending(&mut response));
    log.fail_ready();
    assert_eq!(soon(response).await, Err(AppError::Broken("not ready")));
}

/// Found in review: attempts without a wait were one long poll; nothing else on the thread ran, not
/// even the timeout around them. The service did give way, `run` did not.
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
