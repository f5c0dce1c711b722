//! Backpressure: the service is ready only while it holds a token.

use buttress::ErrorKind;
use tower::Service;

use super::{
    answers_in_turn, limiter, one_in_100_ms, passed_in_a_second, twenty_thousand_a_second,
};
use crate::support::{Ask, Waiter, behind, now, ready_fails};

#[tokio::test(start_paused = true)]
async fn it_is_woken_when_its_token_comes() {
    let layer = limiter(one_in_100_ms());
    let (mut service, log) = behind(&layer.clone().backpressure(), []);
    layer.handle().try_acquire(1).unwrap();
    let waiter = Waiter::new();
    waiter.woken_after(100, |waiter| waiter.poll_ready(&mut service).is_pending()).await;
    assert!(waiter.poll_ready(&mut service).is_ready());
    assert!(waiter.poll_ready(&mut service).is_ready(), "and stays so");
    assert!(now(service.call(Ask(0))).is_ok());
    assert_eq!((log.calls(), layer.handle().stats().refused), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn services_are_let_in_in_the_order_they_came() {
    let (service, log) = behind(&limiter(one_in_100_ms()).backpressure(), []);
    let order = answers_in_turn(&service, 4).await;
    assert_eq!(order, [1, 2, 3, 4]);
    assert_eq!(log.at(), [0, 100, 200, 300]);
}

#[tokio::test(start_paused = true)]
async fn a_token_reserved_and_not_used_is_given_back() {
    let layer = limiter(one_in_100_ms());
    let (mut service, _log) = behind(&layer.clone().backpressure(), []);
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    assert_eq!(layer.handle().available(), 0);
    let mut clone = service.clone();
    let waiter = Waiter::new();
    assert!(waiter.poll_ready(&mut clone).is_pending(), "a clone starts without one");
    drop(service);
    assert_eq!(waiter.wakes(), 1, "it is the clone's now");
    assert!(waiter.poll_ready(&mut clone).is_ready());
    drop(clone);
    assert_eq!(layer.handle().available(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_poll_ready_gives_the_token_back() {
    let layer = limiter(one_in_100_ms());
    let (mut service, log) = behind(&layer.clone().backpressure(), []);
    ready_fails(&mut service, &log);
    assert_eq!(layer.handle().available(), 1);
}

#[tokio::test(start_paused = true)]
async fn called_without_being_ready_it_refuses_what_has_no_token() {
    let layer = limiter(one_in_100_ms());
    let (mut service, log) = behind(&layer.clone().backpressure(), []);
    layer.handle().try_acquire(1).unwrap();
    assert!(Waiter::new().poll_ready(&mut service).is_pending());
    let error = now(service.call(Ask(0))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::RateLimited));
    assert_eq!(log.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn eight_tasks_reach_twenty_thousand_a_second() {
    let (service, log) = behind(&twenty_thousand_a_second().backpressure(), []);
    assert_eq!(passed_in_a_second(service, &log).await, 40 + 999 * 20);
}
