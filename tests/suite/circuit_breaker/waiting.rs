//! Callers that wait for a circuit, or behind one, are woken by every relevant change.

use std::task::{Context, Poll};

use buttress::{CircuitState, ErrorKind};
use tower::{Layer, Service};

use super::{breaker, fails_and_may_probe, touchy};
use crate::support::{
    AppError, Ask, ByHand, Scripted, Step, Waiter, begin, behind, is_pending, ms, now,
};

/// Returns each of `services`, not ready, with the task that waits for it.
fn parked<S: Service<Ask>>(services: Vec<S>) -> Vec<(Waiter, S)> {
    let park = |mut service: S| {
        let waiter = Waiter::new();
        assert!(waiter.poll_ready(&mut service).is_pending());
        (waiter, service)
    };
    services.into_iter().map(park).collect()
}

#[tokio::test(start_paused = true)]
async fn callers_parked_in_the_inner_service_are_woken_when_the_circuit_opens() {
    let (inner, log) = Scripted::new();
    let layer = breaker(touchy());
    let services: Vec<_> = (0..3).map(|_| layer.layer(inner.clone())).collect();
    log.block();
    let mut parked = parked(services);
    layer.handle().try_acquire().unwrap().failure();
    for (waiter, service) in &mut parked {
        assert_eq!(waiter.wakes(), 1);
        assert!(matches!(waiter.poll_ready(service), Poll::Ready(Ok(()))));
        let error = now(service.call(Ask(0))).unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::CircuitOpen));
    }
    assert_eq!(log.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_went_away_is_not_woken() {
    let layer = breaker(touchy());
    let waiter = Waiter::new();
    let (mut service, log) = behind(&layer, []);
    log.block();
    assert!(waiter.poll_ready(&mut service).is_pending());
    drop(service);
    layer.handle().try_acquire().unwrap().failure();
    assert_eq!(waiter.wakes(), 0);
}

#[tokio::test(start_paused = true)]
async fn backpressure_waits_and_is_woken_at_the_end_of_the_open_time() {
    let layer = breaker(touchy()).backpressure();
    let (mut service, log) = behind(&layer, []);
    layer.handle().try_acquire().unwrap().failure();
    let waiter = Waiter::new();
    waiter.woken_after(100, |waiter| waiter.poll_ready(&mut service).is_pending()).await;
    assert!(waiter.poll_ready(&mut service).is_ready());
    assert_eq!(layer.handle().state(), CircuitState::HalfOpen, "the probe is reserved");
    assert_eq!(now(service.call(Ask(0))), Ok(1));
    assert_eq!(layer.handle().state(), CircuitState::Closed);
    assert_eq!((log.calls(), layer.handle().stats().refused), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_are_woken_when_it_closes() {
    let layer = breaker(touchy()).backpressure();
    fails_and_may_probe(&layer.handle()).await;
    let (mut first, log) = behind(&layer, [Step::Held]);
    let others: Vec<_> = (0..4).map(|_| first.clone()).collect();
    let mut probe = begin(&mut first, Ask(0));
    assert!(is_pending(&mut probe));
    let mut waiting = parked(others);
    log.open();
    assert!(now(probe).is_ok());
    for (waiter, service) in &mut waiting {
        assert!(waiter.wakes() >= 1);
        assert!(waiter.poll_ready(service).is_ready());
        assert!(now(service.call(Ask(0))).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reserved_probe_that_is_dropped_lets_the_next_one_in() {
    let (inner, _log) = Scripted::new();
    let layer = breaker(touchy()).backpressure();
    fails_and_may_probe(&layer.handle()).await;
    let (mut first, mut second) = (layer.layer(inner.clone()), layer.layer(inner));
    let waiter = Waiter::new();
    assert!(Waiter::new().poll_ready(&mut first).is_ready());
    assert!(waiter.poll_ready(&mut second).is_pending());
    assert_eq!(waiter.wakes(), 0);
    drop(first);
    assert_eq!(waiter.wakes(), 1);
    assert!(waiter.poll_ready(&mut second).is_ready());
    assert_eq!(now(second.call(Ask(0))), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn backpressure_waits_for_the_lease_of_a_hung_probe() {
    let (inner, log) = Scripted::new();
    log.then([Step::Never]);
    let layer = breaker(touchy().probe_lease(ms(500))).backpressure();
    fails_and_may_probe(&layer.handle()).await;
    let (mut first, mut second) = (layer.layer(inner.clone()), layer.layer(inner));
    let mut hung = begin(&mut first, Ask(0));
    assert!(is_pending(&mut hung));
    let waiter = Waiter::new();
    waiter.woken_after(500, |waiter| waiter.poll_ready(&mut second).is_pending()).await;
    assert!(waiter.poll_ready(&mut second).is_ready());
}

/// A probe that was reserved but not begun at the end of its lease is no longer the probe.
#[tokio::test(start_paused = true)]
async fn a_reservation_kept_beyond_the_lease_does_not_make_a_second_probe() {
    let (inner, log) = Scripted::new();
    log.always(Step::Held);
    let layer = breaker(touchy().probe_lease(ms(500))).backpressure();
    fails_and_may_probe(&layer.handle()).await;
    let (mut first, mut second) = (layer.layer(inner.clone()), layer.layer(inner));
    assert!(Waiter::new().poll_ready(&mut first).is_ready());
    tokio::time::advance(ms(500)).await;
    let mut probe = begin(&mut second, Ask(0));
    assert!(is_pending(&mut probe));
    let mut late = Box::pin(first.call(Ask(0)));
    drop(Waiter::new().poll(&mut late));
    assert_eq!(log.peak(), 1, "one concurrent probe");
}

#[tokio::test(start_paused = true)]
async fn backpressure_waits_for_an_operator_without_a_timer() {
    let layer = breaker(touchy()).backpressure();
    let (mut service, _log) = behind(&layer, []);
    layer.handle().force_open();
    let waiter = Waiter::new();
    assert!(waiter.poll_ready(&mut service).is_pending());
    tokio::time::advance(ms(1_000_000)).await;
    assert_eq!(waiter.wakes(), 0);
    layer.handle().reset();
    assert_eq!(waiter.wakes(), 1);
    assert!(waiter.poll_ready(&mut service).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_ready_before_the_circuit_opened_is_refused_not_parked() {
    let layer = breaker(touchy()).backpressure();
    let (mut service, log) = behind(&layer, []);
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    layer.handle().try_acquire().unwrap().failure();
    let error = now(service.call(Ask(0))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::CircuitOpen));
    assert_eq!(log.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn backpressure_parked_in_the_inner_service_hears_of_every_change() {
    let layer = breaker(touchy()).backpressure();
    let (mut service, log) = behind(&layer, []);
    log.block();
    let waiter = Waiter::new();
    assert!(waiter.poll_ready(&mut service).is_pending());
    layer.handle().try_acquire().unwrap().failure();
    assert_eq!(waiter.wakes(), 1);
    assert!(waiter.poll_ready(&mut service).is_pending(), "now it waits for the circuit");
    log.unblock();
    waiter.wakes();
    waiter.woken_after(100, |waiter| waiter.poll_ready(&mut service).is_pending()).await;
    assert!(waiter.poll_ready(&mut service).is_ready());
    assert_eq!(now(service.call(Ask(0))), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn with_backpressure_too_an_error_of_poll_ready_counts_as_a_failure() {
    let layer = breaker(touchy()).backpressure();
    let (mut service, log) = behind(&layer, []);
    log.fail_ready();
    assert!(matches!(Waiter::new().poll_ready(&mut service), Poll::Ready(Err(_))));
    assert_eq!(layer.handle().state(), CircuitState::Open);
    assert_eq!(layer.handle().stats().failures, 1);
}

/// The circuit can change between its check and the registration of the waiter.
#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_while_the_service_is_asked_refuses_at_once() {
    let layer = breaker(touchy());
    let circuit = layer.handle();
    let ready = move |_: &mut Context<'_>| {
        circuit.try_acquire().unwrap().failure();
        Poll::Pending
    };
    let answer = |_: Ask| -> Result<u32, AppError> { unreachable!("it is never ready") };
    let mut service = layer.layer(ByHand { ready, answer });
    assert!(Waiter::new().poll_ready(&mut service).is_ready());
    let error = now(service.call(Ask(0))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::CircuitOpen));
}
