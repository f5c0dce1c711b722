//! Each waiter has its own deadline, whatever the waiters ahead of it have.

use buttress::Clock;
use buttress::ErrorKind;
use buttress::bulkhead::BulkheadLayer;
use tower::Layer;

use super::{bulkhead, one};
use crate::support::{Scripted, Waiter, Watch, is_pending, ms, now, soon};

const HOUR: u64 = 3_600_000;

/// Regression: a `select!` branch owned the first waiter and then waited itself, for an hour behind
/// its own first future, which was no longer polled.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_select_keeps_and_does_not_poll_holds_nobody_up() {
    let handle = bulkhead(one().queue(8).max_wait(ms(50))).handle();
    let _running = handle.try_acquire().unwrap();
    let watch = Watch::start();
    let mut first = Box::pin(handle.acquire());
    tokio::select! {
        biased;
        _ = &mut first => panic!("there is no permit"),
        () = Clock::default().sleep(ms(1)) => {
            let error = soon(handle.acquire()).await.unwrap_err();
            assert_eq!((error.kind(), watch.ms()), (ErrorKind::QueueTimeout, 51));
        }
    }
    assert_eq!(now(first).unwrap_err().kind(), ErrorKind::QueueTimeout);
    assert_eq!((handle.stats().queued, handle.stats().queue_timeouts), (0, 2));
}

/// Regression: newcomers inherited the deadline of the waiter ahead.
#[tokio::test(start_paused = true)]
async fn a_shorter_longest_wait_holds_for_newcomers_at_once() {
    let handle = bulkhead(one().queue(8).max_wait(ms(HOUR))).handle();
    let _running = handle.try_acquire().unwrap();
    let (waiter, mut patient) = (Waiter::new(), Box::pin(handle.acquire()));
    assert!(waiter.poll(&mut patient).is_pending());
    handle.reconfigure(&one().queue(8).max_wait(ms(50))).unwrap();
    let watch = Watch::start();
    assert_eq!(soon(handle.acquire()).await.unwrap_err().kind(), ErrorKind::QueueTimeout);
    assert_eq!(watch.ms(), 50);
    tokio::time::advance(ms(HOUR - 51)).await;
    assert!(waiter.poll(&mut patient).is_pending(), "it was promised an hour");
    waiter.wakes();
    tokio::time::advance(ms(1)).await;
    assert_eq!(waiter.wakes(), 1);
    assert!(now(patient).is_err());
}

/// Regression: no deadline was seen behind a head without a limit.
#[tokio::test(start_paused = true)]
async fn a_head_that_waits_for_ever_hides_no_deadline() {
    let layer = bulkhead(one().queue(8));
    let handle = layer.handle();
    let running = handle.try_acquire().unwrap();
    let mut head = Box::pin(handle.acquire());
    assert!(is_pending(&mut head));
    handle.reconfigure(&one().queue(8).max_wait(ms(50))).unwrap();
    let watch = Watch::start();
    assert_eq!(soon(handle.acquire()).await.unwrap_err().kind(), ErrorKind::QueueTimeout);
    assert_eq!(watch.ms(), 50);
    drop(running);
    drop(now(head).unwrap());

    // Backpressure is such a head with every configuration.
    let _running = handle.try_acquire().unwrap();
    let mut parked = BulkheadLayer::from_handle(&handle).backpressure().layer(Scripted::new().0);
    assert!(Waiter::new().poll_ready(&mut parked).is_pending());
    assert_eq!(soon(handle.acquire()).await.unwrap_err().kind(), ErrorKind::QueueTimeout);
    assert_eq!(watch.ms(), 100);
}

/// Regression: permits that were reserved or granted and not used were counted as admitted.
#[tokio::test(start_paused = true)]
async fn only_a_permit_that_is_handed_out_counts_as_admitted() {
    let layer = bulkhead(one().queue(8).count_calls(true));
    let handle = layer.handle();
    let mut service = layer.backpressure().layer(Scripted::new().0);
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    drop(service);
    assert_eq!(handle.stats().admitted, Some(0));
    let running = handle.try_acquire().unwrap();
    let mut waits = Box::pin(handle.acquire());
    assert!(is_pending(&mut waits));
    drop(running);
    assert_eq!(handle.stats().active, 1, "granted");
    drop(waits);
    assert_eq!((handle.stats().active, handle.stats().admitted), (0, Some(1)));
}
