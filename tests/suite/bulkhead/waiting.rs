//! Backpressure: the service is ready only while it holds a permit.

use buttress::ErrorKind;
use tower::Service;

use super::{bulkhead, one};
use crate::support::{Ask, Step, Waiter, begin, behind, is_pending, ms, now};

#[tokio::test(start_paused = true)]
async fn it_is_woken_when_a_call_ends() {
    let layer = bulkhead(one());
    let (mut service, _) = behind(&layer.clone().backpressure(), [Step::AnswerAfter(100)]);
    let mut other = service.clone();
    let mut running = begin(&mut service, Ask(0));
    assert!(is_pending(&mut running));
    let waiter = Waiter::new();
    assert!(waiter.poll_ready(&mut other).is_pending());
    tokio::time::advance(ms(99)).await;
    assert!(is_pending(&mut running));
    assert_eq!(waiter.wakes(), 0);
    tokio::time::advance(ms(1)).await;
    assert!(now(running).is_ok());
    assert_eq!(waiter.wakes(), 1);
    assert!(waiter.poll_ready(&mut other).is_ready());
    assert_eq!(layer.handle().stats().active, 1, "reserved");
    assert_eq!(now(other.call(Ask(1))), Ok(2));
    assert_eq!((layer.handle().stats().active, layer.handle().stats().refused), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permit_reserved_and_not_used_goes_on_to_the_next() {
    let layer = bulkhead(one());
    let (mut idle, _log) = behind(&layer.clone().backpressure(), []);
    let mut other = idle.clone();
    assert!(Waiter::new().poll_ready(&mut idle).is_ready());
    let waiter = Waiter::new();
    assert!(waiter.poll_ready(&mut other).is_pending());
    drop(idle);
    assert_eq!(waiter.wakes(), 1);
    assert!(waiter.poll_ready(&mut other).is_ready());
    drop(other);
    assert_eq!(layer.handle().stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_and_goes_away_leaves_the_queue() {
    let layer = bulkhead(one());
    let (mut service, _log) = behind(&layer.clone().backpressure(), []);
    let running = layer.handle().try_acquire().unwrap();
    assert!(Waiter::new().poll_ready(&mut service).is_pending());
    assert_eq!(layer.handle().stats().queued, 1);
    drop(service);
    assert_eq!(layer.handle().stats().queued, 0);
    drop(running);
    assert_eq!(layer.handle().stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_poll_ready_gives_the_permit_back() {
    let layer = bulkhead(one());
    let (mut service, log) = behind(&layer.clone().backpressure(), []);
    log.fail_ready();
    let polled = Waiter::new().poll_ready(&mut service);
    assert!(matches!(polled, std::task::Poll::Ready(Err(_))));
    assert_eq!(layer.handle().stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn called_without_being_ready_it_refuses_what_has_no_permit() {
    let layer = bulkhead(one());
    let (mut service, log) = behind(&layer.clone().backpressure(), []);
    let _running = layer.handle().try_acquire().unwrap();
    assert!(Waiter::new().poll_ready(&mut service).is_pending());
    let error = now(service.call(Ask(0))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::BulkheadFull));
    assert_eq!((log.calls(), layer.handle().stats().queued), (0, 0));
}
