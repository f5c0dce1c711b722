//! Backpressure: the service is ready only while it holds a permit.

use buttress::bulkhead::{BackpressureBulkhead, Handle};
use buttress::{AsError, ErrorKind};
use tower::Service;

use super::{bulkhead, one};
use crate::support::{
    Ask, Log, Scripted, Step, Waiter, begin, behind, is_pending, ms, now, ready_fails,
};

/// Returns the handle of a bulkhead of one permit, and a service that waits for the permit.
fn one_at_a_time() -> (Handle, BackpressureBulkhead<Scripted, AsError>, Log) {
    let layer = bulkhead(one());
    let (service, log) = behind(&layer.clone().backpressure(), []);
    (layer.handle(), service, log)
}

#[tokio::test(start_paused = true)]
async fn it_is_woken_when_a_call_ends() {
    let (handle, mut service, log) = one_at_a_time();
    log.then([Step::AnswerAfter(100)]);
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
    assert_eq!(handle.stats().active, 1, "reserved");
    assert_eq!(now(other.call(Ask(1))), Ok(2));
    assert_eq!((handle.stats().active, handle.stats().refused), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_permit_reserved_and_not_used_goes_on_to_the_next() {
    let (handle, mut idle, _log) = one_at_a_time();
    let mut other = idle.clone();
    assert!(Waiter::new().poll_ready(&mut idle).is_ready());
    let waiter = Waiter::new();
    assert!(waiter.poll_ready(&mut other).is_pending());
    drop(idle);
    assert_eq!(waiter.wakes(), 1);
    assert!(waiter.poll_ready(&mut other).is_ready());
    drop(other);
    assert_eq!(handle.stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_and_goes_away_leaves_the_queue() {
    let (handle, mut service, _log) = one_at_a_time();
    let running = handle.try_acquire().unwrap();
    assert!(Waiter::new().poll_ready(&mut service).is_pending());
    assert_eq!(handle.stats().queued, 1);
    drop(service);
    assert_eq!(handle.stats().queued, 0);
    drop(running);
    assert_eq!(handle.stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_poll_ready_gives_the_permit_back() {
    let (handle, mut service, log) = one_at_a_time();
    ready_fails(&mut service, &log);
    assert_eq!(handle.stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn called_without_being_ready_it_refuses_what_has_no_permit() {
    let (handle, mut service, log) = one_at_a_time();
    let _running = handle.try_acquire().unwrap();
    assert!(Waiter::new().poll_ready(&mut service).is_pending());
    let error = now(service.call(Ask(0))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::BulkheadFull));
    assert_eq!((log.calls(), handle.stats().queued), (0, 0));
}
