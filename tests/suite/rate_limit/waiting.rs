//! Backpressure: the service is ready only while it holds a token.

use buttress::ErrorKind;
use buttress::rate_limit::Config;
use tower::{Layer, Service};

use super::{limiter, one_in_100_ms};
use crate::support::{Ask, Scripted, Waiter, Watch, call, ms, now};

#[tokio::test(start_paused = true)]
async fn it_is_woken_when_its_token_comes() {
    let (inner, log) = Scripted::new();
    let layer = limiter(one_in_100_ms());
    let mut service = layer.clone().backpressure().layer(inner);
    layer.handle().try_acquire(1).unwrap();
    let waiter = Waiter::new();
    assert!(waiter.poll_ready(&mut service).is_pending());
    tokio::time::advance(ms(99)).await;
    assert_eq!(waiter.wakes(), 0);
    assert!(waiter.poll_ready(&mut service).is_pending());
    tokio::time::advance(ms(1)).await;
    assert_eq!(waiter.wakes(), 1);
    assert!(waiter.poll_ready(&mut service).is_ready());
    assert!(waiter.poll_ready(&mut service).is_ready(), "and stays so");
    assert!(now(service.call(Ask(0))).is_ok());
    assert_eq!((log.calls(), layer.handle().stats().refused), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn services_are_let_in_in_the_order_they_came() {
    let (inner, log) = Scripted::new();
    let layer = limiter(one_in_100_ms());
    let service = layer.backpressure().layer(inner);
    let tasks: Vec<_> = (0..4)
        .map(|n| {
            let mut service = service.clone();
            tokio::spawn(async move { call(&mut service, Ask(n)).await.unwrap() })
        })
        .collect();
    let mut order = Vec::new();
    for task in tasks {
        order.push(task.await.unwrap());
    }
    assert_eq!(order, [1, 2, 3, 4]);
    assert_eq!(log.at(), [0, 100, 200, 300]);
}

#[tokio::test(start_paused = true)]
async fn a_token_reserved_and_not_used_is_given_back() {
    let (inner, _log) = Scripted::new();
    let layer = limiter(one_in_100_ms());
    let mut service = layer.clone().backpressure().layer(inner);
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
    let (inner, log) = Scripted::new();
    let layer = limiter(one_in_100_ms());
    let mut service = layer.clone().backpressure().layer(inner);
    log.fail_ready();
    let polled = Waiter::new().poll_ready(&mut service);
    assert!(matches!(polled, std::task::Poll::Ready(Err(_))));
    assert_eq!(layer.handle().available(), 1);
}

#[tokio::test(start_paused = true)]
async fn called_without_being_ready_it_refuses_what_has_no_token() {
    let (inner, log) = Scripted::new();
    let layer = limiter(one_in_100_ms());
    let mut service = layer.clone().backpressure().layer(inner);
    layer.handle().try_acquire(1).unwrap();
    assert!(Waiter::new().poll_ready(&mut service).is_pending());
    let error = now(service.call(Ask(0))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::RateLimited));
    assert_eq!(log.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn eight_tasks_reach_twenty_thousand_a_second() {
    let layer = limiter(Config::new().max_tokens(40).refill(20_000, ms(1000)));
    let (inner, log) = Scripted::new();
    let service = layer.backpressure().layer(inner);
    let watch = Watch::start();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (mut service, watch) = (service.clone(), Watch(watch.0));
            tokio::spawn(async move {
                while watch.ms() < 1000 {
                    call(&mut service, Ask(0)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let passed = log.at().iter().filter(|at| **at < 1000).count();
    assert_eq!(passed, 40 + 999 * 20);
}
