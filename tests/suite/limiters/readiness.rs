//! A call that waits for a limiter holds nothing of the inner service.

use std::pin::Pin;

use buttress::bulkhead::{self, BulkheadLayer, Permit};
use buttress::rate_limit::{self, RateLimitLayer};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service};

use crate::support::{
    AppError, Ask, Log, Scripted, Step, Waiter, begin, behind, is_pending, ms, now, panic_of,
};

type Inner = ConcurrencyLimit<Scripted>;

/// An inner service with one permit, another clone of it, and its record.
fn inner() -> (Inner, Inner, Log) {
    let (scripted, log) = Scripted::new();
    let inner = ConcurrencyLimit::new(scripted, 1);
    (inner.clone(), inner, log)
}

fn is_free(service: &mut Inner) -> bool {
    Waiter::new().poll_ready(&mut service.clone()).is_ready()
}

fn full() -> (BulkheadLayer, Permit) {
    let config = bulkhead::Config::new().max_concurrent(1).queue(8).max_wait(ms(100));
    let layer = BulkheadLayer::new(config).unwrap();
    let permit = layer.handle().try_acquire().unwrap();
    (layer, permit)
}

fn spent() -> RateLimitLayer {
    let config = rate_limit::Config::new().max_tokens(1).refill(1, ms(100)).max_wait(ms(100));
    let layer = RateLimitLayer::new(config).unwrap();
    layer.handle().try_acquire(1).unwrap();
    layer
}

type Waits<L> = Pin<Box<<<L as Layer<Inner>>::Service as Service<Ask>>::Future>>;

/// Begins a call that waits for `layer`. Returns it with the record of the inner service.
fn waits_behind<L>(layer: &L) -> (Waits<L>, Log)
where
    L: Layer<Inner, Service: Service<Ask, Error = AppError>>,
{
    let (limited, _other, log) = inner();
    let mut waits = begin(&mut layer.layer(limited), Ask(0));
    assert!(is_pending(&mut waits));
    (waits, log)
}

/// The layer makes the call wait; `admit` admits it.
async fn keeps_nothing_while_it_waits<L>(layer: L, admit: impl AsyncFnOnce())
where
    L: Layer<Inner, Service: Service<Ask, Response = u32, Error = AppError>>,
{
    let (limited, mut other, log) = inner();
    let mut service = layer.layer(limited);
    let polls = log.ready_polls();
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    assert_eq!(log.ready_polls(), polls, "the inner service was not asked");
    let mut waits = Box::pin(service.call(Ask(0)));
    assert!(is_pending(&mut waits));
    assert!(is_free(&mut other), "a waiting call holds no permit of the inner service");
    log.block();
    let waiter = Waiter::new();
    assert!(waiter.poll(&mut waits).is_pending());
    admit().await;
    assert!(waiter.poll(&mut waits).is_pending(), "the inner service is not ready");
    // Longer than the longest wait: its turn has come, and it keeps it.
    tokio::time::advance(ms(5000)).await;
    assert!(waiter.poll(&mut waits).is_pending());
    waiter.wakes();
    log.unblock();
    assert!(waiter.wakes() >= 1);
    assert_eq!(now(waits), Ok(1));
    assert!(is_free(&mut other));
}

#[tokio::test(start_paused = true)]
async fn a_queued_bulkhead_keeps_nothing_while_it_waits() {
    let (layer, permit) = full();
    let handle = layer.handle();
    keeps_nothing_while_it_waits(layer.queued(), async move || drop(permit)).await;
    assert_eq!((handle.stats().active, handle.stats().queue_timeouts), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_queued_limiter_keeps_nothing_while_it_waits() {
    let layer = spent();
    let handle = layer.handle();
    keeps_nothing_while_it_waits(layer.queued(), async || tokio::time::advance(ms(100)).await)
        .await;
    assert_eq!(handle.stats().queue_timeouts, 0);
}

/// Ready for the last permit, which another call took first.
#[tokio::test(start_paused = true)]
async fn a_call_that_must_wait_after_all_lets_go_of_the_service_that_was_ready() {
    let (limited, mut other, _log) = inner();
    let (layer, permit) = full();
    drop(permit);
    let mut service = layer.clone().queued().layer(limited);
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    assert!(!is_free(&mut other), "it was asked: the call would have been admitted");
    let permit = layer.handle().try_acquire().unwrap();
    let mut waits = Box::pin(service.call(Ask(0)));
    assert!(is_pending(&mut waits));
    assert!(is_free(&mut other));
    drop(permit);
    assert_eq!(now(waits), Ok(1));
}

/// A call parks in the inner service, then other calls use up the limiter.
#[tokio::test(start_paused = true)]
async fn one_that_was_parked_in_the_inner_service_leaves_it_when_it_must_wait() {
    let (limited, mut other, _log) = inner();
    let (layer, permit) = full();
    drop(permit);
    assert!(Waiter::new().poll_ready(&mut other).is_ready());
    let mut service = layer.clone().queued().layer(limited);
    assert!(Waiter::new().poll_ready(&mut service).is_pending());
    let _running = layer.handle().try_acquire().unwrap();
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    let mut fresh = other.clone();
    drop(other);
    assert!(is_free(&mut fresh), "no idle call holds the inner permit");
    drop(service);
}

/// A permit that was released between `poll_ready` and `call` is used, although the inner service
/// was not polled.
#[tokio::test(start_paused = true)]
async fn a_call_that_need_not_wait_any_more_asks_the_inner_service_itself() {
    let (limited, _other, log) = inner();
    let (layer, permit) = full();
    let mut service = layer.clone().queued().layer(limited);
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    drop(permit);
    log.block();
    let mut call = Box::pin(service.call(Ask(0)));
    assert!(is_pending(&mut call));
    assert_eq!(layer.handle().stats().active, 1);
    log.unblock();
    assert_eq!(now(call), Ok(1));
    assert_eq!(layer.handle().stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_is_the_calls_error_and_gives_the_turn_back() {
    let (layer, permit) = full();
    let (mut waits, log) = waits_behind(&layer.clone().queued());
    drop(permit);
    log.fail_ready();
    assert_eq!(now(&mut waits), Err(AppError::Broken("not ready")));
    assert_eq!((layer.handle().stats().active, log.calls()), (0, 0), "though it is kept");

    let layer = spent();
    let (mut waits, log) = waits_behind(&layer.clone().queued());
    tokio::time::advance(ms(100)).await;
    log.fail_ready();
    assert_eq!(now(&mut waits), Err(AppError::Broken("not ready")));
    assert_eq!((layer.handle().available(), log.calls()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_a_drop_while_it_asks_gives_the_turn_back() {
    let (layer, permit) = full();
    let (mut waits, log) = waits_behind(&layer.clone().queued());
    drop(permit);
    log.panic_ready();
    panic_of(|| is_pending(&mut waits));
    assert_eq!(layer.handle().stats().active, 0, "on the spot");

    let layer = spent();
    let (mut waits, log) = waits_behind(&layer.clone().queued());
    tokio::time::advance(ms(100)).await;
    log.block();
    assert!(is_pending(&mut waits));
    assert_eq!(layer.handle().available(), 0);
    drop(waits);
    assert_eq!(layer.handle().available(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_one_that_asks_gets_its_turn() {
    let layer = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(2).queue(8)).unwrap();
    let permits = [layer.handle().try_acquire().unwrap(), layer.handle().try_acquire().unwrap()];
    let (mut service, log) = behind(&layer.clone().queued(), []);
    let mut calls: Vec<_> = (0..3).map(|n| begin(&mut service, Ask(n))).collect();
    assert!(calls.iter_mut().all(is_pending));
    log.then([Step::Held, Step::Answer]);
    drop(permits);
    assert!(is_pending(&mut calls[0]));
    assert_eq!(now(&mut calls[1]), Ok(2));
    assert_eq!(now(&mut calls[2]), Ok(3));
}
