//! The probes. Tests in [`broken`](super::broken) show that each fails with a broken layer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use tower::Service;

use super::{Subject, Wraps};
use crate::support::{Ask, Scripted, Step, Waiter, begin, behind, call, is_pending, ms, soon};

/// The scripted service itself panics when it is called without having been polled ready.
///
/// Broken by `Fault::CallsAFreshClone`.
pub(crate) async fn calls_only_values_that_were_polled_ready<L: Wraps>(
    make: impl Fn() -> Subject<L>,
) {
    let subject = make().warm().await;
    let (mut service, log) = behind(&subject.layer, []);
    log.then([Step::Answer; 6]).then([Step::Fail, Step::FailAfter(1)]);
    for n in 0..4 {
        let mut other = service.clone();
        // Whatever the answers: the last two fail.
        drop(soon(call(&mut service, Ask(n))).await);
        drop(soon(call(&mut other, Ask(n))).await);
    }
    assert!(log.calls() >= 7, "calls must reach the service");
}

/// Broken by `Fault::IgnoresReadiness` and by `Fault::ForgetsTheWaker`.
pub(crate) async fn waits_for_a_pending_inner_and_is_woken_once<L: Wraps>(
    make: impl Fn() -> Subject<L>,
) {
    let subject = make().warm().await;
    let (inner, log) = Scripted::new();
    let mut service = subject.layer.layer(inner);
    let waiter = Waiter::new();
    log.block();
    assert!(waiter.poll_ready(&mut service).is_pending(), "the inner service is not ready");
    tokio::time::advance(ms(1)).await;
    assert_eq!(waiter.wakes(), 0, "nothing has changed");
    log.unblock();
    assert_eq!(waiter.wakes(), 1, "the inner service woke the waiter");
    assert!(matches!(waiter.poll_ready(&mut service), Poll::Ready(Ok(()))));
    soon(service.call(Ask(0))).await.unwrap();
}

/// Broken by `Fault::LeaksWhatIsDropped`.
pub(crate) async fn gives_everything_back_when_a_call_is_dropped<L: Wraps>(
    make: impl Fn() -> Subject<L>,
) {
    for polls in 0..3 {
        let subject = make().warm().await;
        let (inner, log) = Scripted::new();
        let mut service = subject.layer.layer(inner);
        log.then([Step::Held]);
        let gauges = (subject.gauges)();
        let mut response = begin(&mut service, Ask(0));
        for _ in 0..polls {
            assert!(is_pending(&mut response));
        }
        drop(response);
        assert_eq!((subject.gauges)(), gauges, "dropped after {polls} polls");
        assert_eq!(log.live(), 0, "the inner call was dropped too");
        soon(call(&mut service, Ask(1))).await.unwrap();
    }
    dropped_while_waiting(make().warm().await).await;
    dropped_while_ready(make().warm().await).await;
}

/// Checks calls behind a held call, where the layer makes calls wait.
async fn dropped_while_waiting<L: Wraps>(subject: Subject<L>) {
    let (mut first, log) = behind(&subject.layer, []);
    let mut second = first.clone();
    log.always(Step::Held);
    let held = begin(&mut first, Ask(0));
    let (gauges, unspent) = ((subject.gauges)(), (subject.unspent)());
    let waiter = Waiter::new();
    if waiter.poll_ready(&mut second).is_ready() {
        let mut response = Box::pin(second.call(Ask(1)));
        // Refused, running or in the queue.
        drop(waiter.poll(&mut response));
        drop(response);
    }
    drop(second);
    assert_eq!((subject.gauges)(), gauges, "dropped behind another call");
    if log.calls() == 1 {
        assert_eq!((subject.unspent)(), unspent, "dropped before it reached the service");
    }
    drop(held);
    log.always(Step::Answer);
    soon(call(&mut first, Ask(2))).await.unwrap();
}

async fn dropped_while_ready<L: Wraps>(subject: Subject<L>) {
    let (mut idle, _log) = behind(&subject.layer, []);
    let mut service = idle.clone();
    let before = ((subject.gauges)(), (subject.unspent)());
    assert!(Waiter::new().poll_ready(&mut idle).is_ready());
    drop(idle);
    assert_eq!(((subject.gauges)(), (subject.unspent)()), before, "dropped when it was ready");
    soon(call(&mut service, Ask(0))).await.unwrap();
}

/// Broken by `Fault::LeaksWhatIsDropped`.
pub(crate) async fn gives_everything_back_when_something_inside_panics<L: Wraps>(
    make: impl Fn() -> Subject<L>,
) {
    for step in
        [None, Some(Step::PanicInCall), Some(Step::PanicAtPoll(1)), Some(Step::PanicAtPoll(2))]
    {
        let subject = make().warm().await;
        let (mut service, log) = behind(&subject.layer, []);
        let gauges = (subject.gauges)();
        match step {
            Some(step) => drop(log.then([step])),
            None => log.panic_ready(),
        }
        let mut response = None;
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let response = response.insert(begin(&mut service, Ask(0)));
            while is_pending(response) {}
        }));
        panic.expect_err("the panic of the service is not swallowed");
        if step.is_some() {
            // Immediately: neither the future nor the service was dropped.
            assert_eq!((subject.gauges)(), gauges, "after {step:?}");
        }
        drop(response);
        let mut other = service.clone();
        drop(service);
        assert_eq!((subject.gauges)(), gauges, "after {step:?}, dropped");
        assert_eq!(log.live(), 0);
        soon(call(&mut other, Ask(1))).await.unwrap();
    }
}

/// Broken by `Fault::WakesItself`.
pub(crate) async fn is_not_woken_without_a_cause<L: Wraps>(make: impl Fn() -> Subject<L>) {
    let subject = make().warm().await;
    let (inner, log) = Scripted::new();
    let mut service = subject.layer.layer(inner);
    log.then([Step::Held]);
    let waiter = Waiter::new();
    let mut response = begin(&mut service, Ask(0));
    for _ in 0..3 {
        assert!(waiter.poll(&mut response).is_pending());
        tokio::time::advance(ms(1)).await;
        assert_eq!(waiter.wakes(), 0, "nothing has changed");
    }
    log.open();
    // It parked once per poll, so only the inner service wakes it three times.
    assert_eq!(waiter.wakes(), 3);
    assert_eq!(waiter.poll(&mut response).map(Result::unwrap), Poll::Ready(1));
    assert_eq!(waiter.wakes(), 0, "an answer wakes no waiter");
}

/// Polls only futures that were woken. Time moves only when none was.
///
/// Broken by `Fault::WakesOneOfMany` and by `Fault::ForgetsTheWaker`.
pub(crate) async fn every_waiter_gets_there_by_wakes_alone<L: Wraps>(
    make: impl Fn() -> Subject<L>,
) {
    let subject = make().warm().await;
    let (inner, log) = Scripted::new();
    let service = subject.layer.layer(inner);
    log.block();
    log.then([Step::Held]);
    let mut waiting: Vec<_> = (0..5)
        .map(|n| {
            let mut service = service.clone();
            let call = Box::pin(async move { call(&mut service, Ask(n)).await.is_ok() });
            (n, Waiter::new(), call)
        })
        .collect();
    waiting.retain_mut(|(_, waiter, call)| waiter.poll(call).is_pending());
    assert_eq!(waiting.len(), 5, "no call passes a service that is not ready");
    log.unblock();
    let mut polls = 0;
    for round in 0..40 {
        let before = polls;
        waiting.retain_mut(|(_, waiter, call)| {
            waiter.wakes() == 0 || {
                polls += 1;
                waiter.poll(call).is_pending()
            }
        });
        if round == 5 {
            log.open();
        }
        if polls == before {
            tokio::time::advance(ms(1)).await;
        }
    }
    let left: Vec<_> = waiting.iter().map(|(n, ..)| n).collect();
    assert!(left.is_empty(), "{left:?} were not woken");
    assert!(polls <= 25, "{polls} polls for 5 calls");
}

/// Broken by `Fault::StateInTheService`.
pub(crate) async fn eight_services_of_one_layer_share_its_state<L: Wraps>(
    make: impl Fn() -> Subject<L>,
) {
    let subject = make().warm().await;
    for n in 0..8 {
        let (mut service, _log) = behind(&subject.layer.clone(), []);
        soon(call(&mut service, Ask(n))).await.unwrap();
    }
    assert_eq!((subject.counted)(), 8);
}

/// Broken by `Fault::SaysNothing`.
pub(crate) async fn debug_texts_name_the_parts<L: Wraps>(make: impl Fn() -> Subject<L>) {
    let subject = make().warm().await;
    let (inner, _log) = Scripted::new();
    assert!(format!("{:?}", subject.layer).contains("Handle"), "{:?}", subject.layer);
    let service = format!("{:?}", subject.layer.layer(inner));
    assert!(service.contains("Scripted") && service.contains("Handle"), "{service}");
}
