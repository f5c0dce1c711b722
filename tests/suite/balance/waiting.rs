//! Calls whose endpoint cannot take them.

use std::future::Future as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use buttress::ErrorKind;
use buttress::balance::Config;
use buttress::context::Context;
use tower::{Service, service_fn};

use super::{Backends, in_turn};
use crate::support::{
    AppError, Ask, ByHand, Step, Waiter, Watch, begin, call, is_pending, ms, now,
};

fn message(error: AppError) -> String {
    assert_eq!(error.kind(), Some(ErrorKind::NoEndpoint));
    assert!(error.refusal().never_reached_service());
    assert_eq!(error.refusal().retry_after(), None);
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_to_another_endpoint_if_the_first_cannot_take_it() {
    let backends = Backends::new(&["a", "b"]);
    backends.log("a").block();
    let mut balance = backends.balance(in_turn());
    (0..10).for_each(|_| assert!(now(begin(&mut balance, Ask(0))).is_ok()));
    assert_eq!(backends.calls(), [0, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_call_fails_after_a_second_and_says_why() {
    let mut backends = Backends::new(&["a", "b", "c"]);
    let mut balance = backends.balance(Config::new());
    backends.each(|log| {
        log.block();
    });
    let waiter = Waiter::new();
    let mut waits = begin(&mut balance, Ask(0));
    waiter.woken_after(1_000, |waiter| waiter.poll(&mut waits).is_pending()).await;
    let error = now(waits).unwrap_err();
    assert_eq!(error.refusal().time_limit(), Some(ms(1_000)));
    assert_eq!(
        message(error),
        r#"balancer "orders" has 3 endpoints and none became ready (waited 1s)"#
    );

    backends.replace(&[]);
    let mut waits = begin(&mut balance, Ask(0));
    assert!(is_pending(&mut waits));
    tokio::time::advance(ms(1_000)).await;
    assert_eq!(
        message(now(waits).unwrap_err()),
        r#"balancer "orders" has no endpoints (waited 1s)"#
    );
    assert_eq!(balance.handle().stats().refused, 2);
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_zero_refuses_immediately_and_the_deadline_of_the_request_ends_a_longer_one() {
    let backends = Backends::new(&["a"]);
    backends.log("a").block();
    let mut balance = backends.balance(Config::new().max_wait(Duration::ZERO));
    let error = now(begin(&mut balance, Ask(0))).unwrap_err();
    assert_eq!(
        message(error),
        r#"balancer "orders" has 1 endpoint and none became ready (waited 0ns)"#
    );

    let backends = Backends::new(&["a"]);
    backends.log("a").block();
    let mut balance = backends.balance(Config::new());
    let deadline = buttress::Clock::default().now() + ms(200);
    let context = Context::new().with_deadline(deadline);
    let mut waits = Box::pin(context.scope(begin(&mut balance, Ask(0))));
    assert!(is_pending(&mut waits));
    tokio::time::advance(ms(200)).await;
    let error = now(waits).unwrap_err();
    let error = error.refusal();
    assert_eq!((error.kind(), error.time_limit()), (ErrorKind::DeadlineExceeded, Some(ms(200))));
    assert!(error.never_reached_service(), "a breaker further out does not count it");
    assert_eq!(balance.handle().stats().refused, 1);

    // A deadline after the longest wait does not shorten it.
    let context = Context::new().with_deadline(buttress::Clock::default().now() + ms(1_001));
    let mut waits = Box::pin(context.scope(begin(&mut balance, Ask(0))));
    assert!(is_pending(&mut waits));
    tokio::time::advance(ms(1_000)).await;
    let _no_endpoint = message(now(waits).unwrap_err());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_goes_to_the_first_endpoint_that_is_ready() {
    let backends = Backends::new(&["a", "b"]);
    backends.each(|log| {
        log.block();
    });
    let mut balance = backends.balance(Config::new());
    let (waiter, mut waits) = (Waiter::new(), begin(&mut balance, Ask(0)));
    assert!(waiter.poll(&mut waits).is_pending());
    assert_eq!(waiter.wakes(), 0);
    assert_eq!(balance.handle().stats().pending, 0, "it is at no endpoint");
    backends.log("b").unblock();
    assert_eq!(waiter.wakes(), 1);
    assert_eq!(now(waits), Ok(1));
    assert_eq!(backends.calls(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn edge_5_4_a_call_that_waits_for_a_removed_endpoint_goes_to_another() {
    let mut backends = Backends::new(&["a"]);
    backends.log("a").block();
    let mut balance = backends.balance(Config::new());
    let (waiter, mut waits) = (Waiter::new(), begin(&mut balance, Ask(0)));
    assert!(waiter.poll(&mut waits).is_pending());
    backends.replace(&["b"]);
    assert_eq!(waiter.wakes(), 1);
    backends.log("a").unblock();
    assert_eq!(now(waits), Ok(1));
    assert_eq!(backends.calls(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn edge_5_13_a_call_that_waits_for_the_first_endpoint_is_woken_by_it() {
    let mut backends = Backends::new(&[]);
    let mut balance = backends.balance(Config::new());
    let (waiter, mut waits) = (Waiter::new(), begin(&mut balance, Ask(0)));
    assert!(waiter.poll(&mut waits).is_pending());
    tokio::time::advance(ms(999)).await;
    assert_eq!(waiter.wakes(), 0);
    backends.replace(&["a"]);
    assert_eq!(waiter.wakes(), 1);
    assert_eq!(now(waits), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn edge_5_5_an_endpoint_whose_poll_ready_fails_is_asked_again_after_a_rest() {
    let backends = Backends::new(&["a", "b"]);
    let mut balance = backends.balance(in_turn());
    let handle = balance.handle();
    backends.log("a").fail_ready();
    (0..4).for_each(|_| assert!(now(begin(&mut balance, Ask(0))).is_ok()));
    assert_eq!(backends.calls(), [0, 4], "the call that met the failure too");
    assert_eq!((handle.stats().resting, handle.stats().not_ready), (1, 1));
    tokio::time::advance(ms(89)).await;
    now(begin(&mut balance, Ask(0))).unwrap();
    assert_eq!(backends.calls(), [0, 5]);
    tokio::time::advance(ms(21)).await; // 100 ms and the jitter of a tenth
    (0..4).for_each(|_| assert!(now(begin(&mut balance, Ask(0))).is_ok()));
    assert_eq!(backends.calls(), [2, 7]);
    assert_eq!(handle.stats().resting, 0);
}

#[tokio::test(start_paused = true)]
async fn edge_5_5_the_only_endpoint_is_asked_again_by_the_call_that_waits() {
    let backends = Backends::new(&["a"]);
    let mut balance = backends.balance(Config::new());
    backends.log("a").fail_ready();
    let watch = Watch::start();
    assert_eq!(call(&mut balance, Ask(0)).await, Ok(1));
    let waited = watch.ms();
    assert!((90..=111).contains(&waited), "{waited} ms");
}

#[tokio::test(start_paused = true)]
async fn a_call_fails_if_every_endpoint_fails_to_become_ready() {
    let set = buttress::balance::Endpoints::new();
    set.replace(&[buttress::discover::Instance::at("dead")], |_| dead());
    let mut balance = buttress::balance::Balance::new(set, Config::new().name("orders")).unwrap();
    let error = call(&mut balance, Ask(0)).await.unwrap_err();
    assert_eq!(
        message(error),
        r#"balancer "orders" has 1 endpoint that failed to become ready (waited 1s)"#
    );
    // After 100, 200 and 400 ms it was asked again, and a tenth more or less.
    assert_eq!(balance.handle().stats().not_ready, 4);
}

/// A service that never becomes ready.
fn dead() -> impl Service<Ask, Response = u32, Error = AppError, Future: Send> + Clone + Send + Sync
{
    let ready = |_: &mut std::task::Context<'_>| Poll::Ready(Err(AppError::Broken("dead")));
    ByHand {
        ready,
        answer: |_: Ask| -> Result<u32, AppError> { unreachable!("it is never ready") },
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_the_queues_of_the_endpoints() {
    let backends = Backends::new(&["a", "b"]);
    backends.log("a").then([Step::Held]);
    backends.each(|log| {
        log.block();
    });
    let mut balance = backends.balance(Config::new());
    let mut waits = begin(&mut balance, Ask(0));
    assert!(is_pending(&mut waits));
    drop(waits);
    backends.each(|log| {
        log.unblock();
    });
    assert_eq!(backends.calls(), [0, 0]);
    assert_eq!(balance.handle().stats().pending, 0);
}

/// Threads make calls while another thread changes the set as fast as it can, until many calls have waited. A call
/// that misses its wake is polled again only by the timer of its longest wait, which is far away.
#[test]
fn edge_5_13_no_wake_is_lost_while_the_set_changes() {
    let far = Duration::from_secs(30);
    let set = buttress::balance::Endpoints::new();
    let config = Config::new().max_wait(far);
    let balance = buttress::balance::Balance::new(set.clone(), config).unwrap();
    let waited = AtomicUsize::new(0);
    let enough = || waited.load(Ordering::Relaxed) >= 1_000;
    let callers = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut balance = balance.clone();
        runtime.block_on(async {
            while !enough() {
                let (mut call, watch) = (begin(&mut balance, Ask(1)), Watch::start());
                let first = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
                if first.is_pending() {
                    waited.fetch_add(1, Ordering::Relaxed);
                    call.await.unwrap();
                }
                assert!(watch.ms() < 10_000, "a call missed its wake");
            }
        });
    };
    let instance = [buttress::discover::Instance::at("a")];
    std::thread::scope(|scope| {
        let threads = [scope.spawn(callers), scope.spawn(callers)];
        while !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            set.replace(&[], |_| works());
            std::thread::yield_now();
            set.replace(&instance, |_| works());
            std::thread::yield_now();
        }
    });
    assert_eq!(balance.handle().stats().refused, 0);
}

/// A service that answers immediately.
fn works() -> impl Service<Ask, Response = u32, Error = AppError, Future: Send> + Clone + Send + Sync
{
    service_fn(|ask: Ask| std::future::ready(Ok(ask.0)))
}
