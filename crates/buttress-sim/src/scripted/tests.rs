use std::time::Duration;

use buttress::VirtualClock;
use by_hand::{pending, poll_once};
use tower::Service;

use super::*;

/// Polls by hand, without a runtime.
mod by_hand {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    pub(super) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    pub(super) fn pending<F: Future + Unpin>(future: &mut F) -> bool {
        poll_once(future).is_pending()
    }
}

type Plain = Scripted<u32, u32, String>;

fn call(service: &mut Plain, request: u32) -> ScriptedFuture<u32, u32, String> {
    let ready = service.poll_ready(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(ready.is_ready());
    service.call(request)
}

#[test]
fn steps_are_done_in_order_and_written_down() {
    let time = VirtualClock::new();
    let (mut service, script) = Plain::new(time.clock());
    script.then([
        Step::answer(1),
        Step::fail("no"),
        Step::answer(2).after(Duration::from_micros(3)),
        Step::answer(3).held(),
    ]);
    script.otherwise(|request| Step::answer(request * 10));
    assert_eq!(poll_once(&mut call(&mut service, 0)), std::task::Poll::Ready(Ok(1)));
    assert!(matches!(poll_once(&mut call(&mut service, 0)), std::task::Poll::Ready(Err(_))));
    let mut late = call(&mut service, 0);
    assert!(pending(&mut late));
    time.advance(Duration::from_nanos(2_999));
    assert!(pending(&mut late));
    time.advance(Duration::from_nanos(1));
    assert_eq!(poll_once(&mut late), std::task::Poll::Ready(Ok(2)));
    let mut held = call(&mut service, 0);
    assert!(pending(&mut held));
    assert_eq!((script.running(), script.peak()), (1, 1));
    script.open();
    assert_eq!(poll_once(&mut held), std::task::Poll::Ready(Ok(3)));
    assert_eq!(poll_once(&mut call(&mut service, 7)), std::task::Poll::Ready(Ok(70)));
    let ended: Vec<Ended> = script.calls().iter().map(|call| call.ended).collect();
    use Ended::{Answered, Failed};
    assert_eq!(ended, [Answered, Failed, Answered, Answered, Answered]);
    assert_eq!(script.calls()[2].ended_at, Some(Duration::from_micros(3)));
}

#[test]
fn a_dropped_call_is_written_down_once() {
    let (mut service, script) = Plain::new(VirtualClock::new().clock());
    let mut dropped = call(&mut service, 1);
    assert!(pending(&mut dropped));
    drop(dropped);
    assert_eq!(script.calls()[0].ended, Ended::Dropped);
    assert_eq!(script.running(), 0);
}

#[test]
#[should_panic(expected = "without having been polled ready")]
fn a_clone_is_not_ready_because_its_original_was() {
    let (mut service, _script) = Plain::new(VirtualClock::new().clock());
    let _ = service.poll_ready(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    let _call = service.clone().call(1);
}

#[test]
fn readiness_is_scripted_too() {
    let (mut service, script) = Plain::new(VirtualClock::new().clock());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    script.block();
    assert!(service.poll_ready(&mut cx).is_pending());
    script.fail_ready("gone".to_owned());
    assert_eq!(service.poll_ready(&mut cx), std::task::Poll::Ready(Err("gone".to_owned())));
    script.unblock();
    assert_eq!(service.poll_ready(&mut cx), std::task::Poll::Ready(Ok(())));
}
