//! Calls that wait for a permit in the queue.

use buttress::ErrorKind;
use buttress::bulkhead::Config;
use tower::Layer;

use super::{bulkhead, one};
use crate::support::{Ask, Scripted, Step, Waiter, begin, behind, is_pending, ms, now, panic_of};

#[tokio::test(start_paused = true)]
async fn permits_go_to_those_who_wait_in_the_order_they_came() {
    let layer = bulkhead(one().queue(3));
    let (mut service, log) = behind(&layer.clone().queued(), []);
    let mut running = layer.handle().try_acquire().ok();
    let mut waiting: Vec<_> = (0..3).map(|n| begin(&mut service, Ask(n))).collect();
    assert!(waiting.iter_mut().all(is_pending));
    assert_eq!(layer.handle().stats().queued, 3);
    log.always(Step::Held);
    drop(running.take());
    // The last call is polled first, and must not overtake.
    waiting.reverse();
    assert_eq!(waiting.iter_mut().map(is_pending).collect::<Vec<_>>(), [true; 3]);
    assert_eq!(log.calls(), 1);
    log.open();
    for number in 1..=3 {
        assert_eq!(now(waiting.pop().unwrap()), Ok(number));
    }
    let stats = layer.handle().stats();
    assert_eq!((stats.active, stats.queued, stats.peak_queued, stats.peak_active), (0, 0, 3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once() {
    let layer = bulkhead(one().queue(1));
    let (mut service, log) = behind(&layer.clone().queued(), []);
    let _running = layer.handle().try_acquire().unwrap();
    let mut waits = begin(&mut service, Ask(0));
    assert!(is_pending(&mut waits));
    log.block();
    let error = now(begin(&mut service, Ask(1))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::BulkheadFull), "over a pending service too");
    assert_eq!(layer.handle().stats().refused, 1);
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_ends_at_its_instant() {
    let layer = bulkhead(one().queue(2).max_wait(ms(50)).name("db"));
    let (mut service, log) = behind(&layer.clone().queued(), []);
    let _running = layer.handle().try_acquire().unwrap();
    let waiter = Waiter::new();
    let mut waits = begin(&mut service, Ask(0));
    // The wait begins with the call, not with the first poll.
    tokio::time::advance(ms(20)).await;
    waiter.woken_after(30, |waiter| waiter.poll(&mut waits).is_pending()).await;
    let error = now(waits).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::QueueTimeout));
    assert_eq!(error.to_string(), r#"queue "db" did not admit the call within 50ms"#);
    assert!(error.refusal().never_reached_service());
    assert_eq!((log.calls(), layer.handle().stats().queue_timeouts), (0, 1));
    assert_eq!(layer.handle().stats().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn each_who_waits_times_out_at_an_instant_of_their_own() {
    let layer = bulkhead(one().queue(3).max_wait(ms(50)));
    let handle = layer.handle();
    let _running = handle.try_acquire().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let (waiter, mut waits) = (Waiter::new(), Box::pin(handle.acquire()));
        assert!(waiter.poll(&mut waits).is_pending());
        waiting.push((waiter, waits));
        tokio::time::advance(ms(10)).await;
    }
    tokio::time::advance(ms(20)).await;
    for (n, (waiter, waits)) in waiting.iter_mut().enumerate() {
        assert_eq!(waiter.wakes(), 1, "waiter {n}, woken at {} ms", 50 + 10 * n);
        assert!(matches!(waiter.poll(waits), std::task::Poll::Ready(Err(_))));
        tokio::time::advance(ms(10)).await;
    }
    assert_eq!(handle.stats().queue_timeouts, 3);
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_before_the_last_instant_is_taken() {
    let layer = bulkhead(one().queue(1).max_wait(ms(50)));
    let handle = layer.handle();
    let running = handle.try_acquire().unwrap();
    let mut waits = Box::pin(handle.acquire());
    assert!(is_pending(&mut waits));
    tokio::time::advance(ms(49)).await;
    drop(running);
    tokio::time::advance(ms(1)).await;
    assert!(now(waits).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_in_the_queue_leaves_it() {
    let layer = bulkhead(one().queue(2));
    let (mut service, log) = behind(&layer.clone().queued(), []);
    let running = layer.handle().try_acquire().unwrap();
    let unpolled = begin(&mut service, Ask(0));
    let mut polled = begin(&mut service, Ask(1));
    assert!(is_pending(&mut polled));
    assert_eq!(layer.handle().stats().queued, 2);
    drop(unpolled);
    assert_eq!(layer.handle().stats().queued, 1);
    let mut last = begin(&mut service, Ask(2));
    assert!(is_pending(&mut last));
    drop(polled);
    drop(running);
    assert_eq!(now(last), Ok(1));
    assert_eq!((log.calls(), layer.handle().stats().active), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permit_handed_to_one_who_leaves_goes_on_to_the_next() {
    let layer = bulkhead(one().queue(2));
    let (mut service, log) = behind(&layer.clone().queued(), []);
    let running = layer.handle().try_acquire().unwrap();
    let (first, second) = (Waiter::new(), Waiter::new());
    let mut leaves = begin(&mut service, Ask(0));
    let mut stays = begin(&mut service, Ask(1));
    assert!(first.poll(&mut leaves).is_pending() && second.poll(&mut stays).is_pending());
    drop(running);
    assert_eq!((first.wakes(), second.wakes()), (1, 0));
    assert_eq!(layer.handle().stats().active, 1, "it is the first one's");
    drop(leaves);
    assert_eq!(second.wakes(), 1);
    assert_eq!(layer.handle().stats().active, 1, "and now the second one's");
    assert_eq!(now(stays), Ok(1));
    assert_eq!((log.calls(), layer.handle().stats().active), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_larger_limit_lets_those_in_who_wait() {
    let layer = bulkhead(one().queue(3));
    let handle = layer.handle();
    let _running = handle.try_acquire().unwrap();
    let mut waiting: Vec<_> = (0..3)
        .map(|_| {
            let (waiter, mut waits) = (Waiter::new(), Box::pin(handle.acquire()));
            assert!(waiter.poll(&mut waits).is_pending());
            (waiter, waits)
        })
        .collect();
    handle.resize(3).unwrap();
    let woken: Vec<_> = waiting.iter().map(|(waiter, _)| waiter.wakes()).collect();
    assert_eq!(woken, [1, 1, 0]);
    let last = waiting.pop().unwrap();
    let permits: Vec<_> = waiting.into_iter().map(|(_, waits)| now(waits).unwrap()).collect();
    assert_eq!((handle.stats().active, handle.stats().queued), (3, 1));
    drop(permits);
    assert_eq!(last.0.wakes(), 1);
    assert!(now(last.1).is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_queue_can_grow_while_it_runs() {
    let layer = bulkhead(one());
    let handle = layer.handle();
    let _running = handle.try_acquire().unwrap();
    assert!(now(Box::pin(handle.acquire())).is_err());
    handle.reconfigure(&one().queue(1)).unwrap();
    assert!(is_pending(&mut Box::pin(handle.acquire())));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_call_after_the_wait_passes_the_permit_on() {
    let layer = bulkhead(one().queue(2));
    let (mut service, _) = behind(&layer.clone().queued(), [Step::PanicInCall]);
    let running = layer.handle().try_acquire().unwrap();
    let mut panics = begin(&mut service, Ask(0));
    let mut next = begin(&mut service, Ask(1));
    assert!(is_pending(&mut panics) && is_pending(&mut next));
    drop(running);
    panic_of(|| is_pending(&mut panics));
    assert_eq!(now(next), Ok(2));
    assert_eq!(layer.handle().stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_keeps_nothing_in_the_service() {
    let (inner, _log) = Scripted::new();
    let limited = tower::limit::ConcurrencyLimit::new(inner, 1);
    let mut other = limited.clone();
    let layer = bulkhead(Config::new().max_concurrent(1).queue(1).max_wait(ms(50)));
    let mut service = layer.clone().queued().layer(limited);
    let _running = layer.handle().try_acquire().unwrap();
    let mut waits = begin(&mut service, Ask(0));
    assert!(is_pending(&mut waits));
    assert!(Waiter::new().poll_ready(&mut other).is_ready());
    tokio::time::advance(ms(50)).await;
    assert!(!is_pending(&mut waits));
}

/// After the last waiter has left in any way, permits are available to newcomers again.
#[tokio::test(start_paused = true)]
async fn when_nobody_waits_any_more_newcomers_are_admitted_at_once() {
    for end in ["granted", "dropped", "timed out"] {
        let layer = bulkhead(one().queue(1).max_wait(ms(50)));
        let handle = layer.handle();
        let running = handle.try_acquire().unwrap();
        let mut waits = Box::pin(handle.acquire());
        assert!(is_pending(&mut waits));
        match end {
            "granted" => {
                drop(running);
                drop(now(waits).unwrap());
            }
            "dropped" => {
                drop(waits);
                drop(running);
            }
            _ => {
                tokio::time::advance(ms(50)).await;
                assert!(now(waits).is_err());
                drop(running);
            }
        }
        assert!(handle.try_acquire().is_ok(), "after one that was {end}");
    }
}
