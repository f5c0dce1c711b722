//! Refunds of tokens that were taken for a call that was never made.

use buttress::rate_limit::Config;
use tower::{Layer, Service};

use super::{free_after, limiter, one_in_100_ms};
use crate::support::{Ask, Scripted, Waiter, is_pending, ms, now};

/// Returns how many tokens can be spent immediately, dropping one of `held` when none is left.
fn spend<T>(handle: &buttress::rate_limit::Handle, mut held: Vec<T>) -> u32 {
    let mut spent = 0;
    loop {
        if handle.try_acquire(1).is_ok() {
            spent += 1;
        } else if held.pop().is_none() {
            return spent;
        }
    }
}

/// Regression: ten reservations, one every 100 ms and dropped together, allowed eleven tokens
/// immediately from a bucket of one. The refill had returned them before the refund did.
#[tokio::test(start_paused = true)]
async fn reservations_dropped_after_the_bucket_refilled_bring_back_nothing() {
    let layer = limiter(one_in_100_ms()).backpressure();
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut service = layer.layer(Scripted::new().0);
        assert!(Waiter::new().poll_ready(&mut service).is_ready());
        held.push(service);
        tokio::time::advance(ms(100)).await;
    }
    assert_eq!(spend(&layer.handle(), held), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reservation_dropped_before_the_bucket_refilled_brings_its_token_back() {
    let layer = limiter(one_in_100_ms()).backpressure();
    let mut service = layer.layer(Scripted::new().0);
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    tokio::time::advance(ms(99)).await;
    assert_eq!(spend(&layer.handle(), vec![service]), 1);
    assert_eq!(layer.handle().try_acquire(1).unwrap_err().retry_after(), Some(ms(100)));
}

/// Regression: tokens granted to waiters that disconnected had the same effect.
#[tokio::test(start_paused = true)]
async fn granted_waiters_dropped_after_the_bucket_refilled_bring_back_nothing() {
    let handle = limiter(one_in_100_ms().max_wait(ms(100_000))).handle();
    handle.try_acquire(1).unwrap();
    let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(handle.acquire(1))).collect();
    assert!(waiting.iter_mut().all(is_pending));
    // A poll settles the queue for the waiters ahead, which do not come for their tokens.
    for left in (1..10).rev() {
        tokio::time::advance(ms(100)).await;
        assert!(is_pending(&mut waiting[9]));
        assert_eq!(handle.stats().queued, left);
    }
    tokio::time::advance(ms(100)).await;
    assert_eq!(spend(&handle, waiting), 1);
}

/// Regression: a refund removed the newest entry of the window, whichever call had made it.
#[tokio::test(start_paused = true)]
async fn a_refund_to_a_sliding_window_takes_back_its_own() {
    let layer = limiter(Config::new().sliding_window(2, ms(100))).backpressure();
    let handle = layer.handle();
    let mut idle = layer.layer(Scripted::new().0);
    assert!(Waiter::new().poll_ready(&mut idle).is_ready(), "reserved at 0 ms");
    tokio::time::advance(ms(50)).await;
    let mut service = layer.layer(Scripted::new().0);
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    assert!(now(service.call(Ask(0))).is_ok(), "called at 50 ms");
    tokio::time::advance(ms(10)).await;
    drop(idle);
    handle.try_acquire(1).unwrap();
    tokio::time::advance(ms(40)).await;
    let error = handle.try_acquire(1).unwrap_err();
    assert_eq!(error.retry_after(), Some(ms(50)), "two since 50 ms, despite the refund");
    free_after(&handle, 1, 50).await;
    assert_eq!(handle.try_acquire(1).unwrap_err().retry_after(), Some(ms(10)));
}

/// Regression: tokens that were reserved and not used were counted as admitted.
#[tokio::test(start_paused = true)]
async fn only_a_call_counts_as_admitted() {
    let layer = limiter(one_in_100_ms().count_calls(true));
    let handle = layer.handle();
    let mut service = layer.backpressure().layer(Scripted::new().0);
    for _ in 0..3 {
        assert!(Waiter::new().poll_ready(&mut service.clone()).is_ready());
    }
    assert_eq!(handle.stats().admitted, Some(0));
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    assert!(now(service.call(Ask(0))).is_ok());
    assert_eq!(handle.stats().admitted, Some(1));
    let mut waits = Box::pin(handle.acquire(1));
    assert!(is_pending(&mut waits));
    tokio::time::advance(ms(100)).await;
    drop(waits);
    assert_eq!(handle.stats().admitted, Some(1), "granted, and gone");
}
