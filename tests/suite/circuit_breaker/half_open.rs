//! Probes: their number, their leases, and the effects of their ends.

use std::time::Duration;

use buttress::circuit_breaker::{CircuitBreakerLayer, Config};
use buttress::{CircuitState, Classify, ErrorKind, Outcome};
use tower::Layer;

use super::{ask, breaker, fails_and_may_probe, touchy};
use crate::support::{AppError, Ask, Scripted, Step, begin, behind, is_pending, ms, now};

/// A circuit whose open time has just passed.
async fn ripe(config: Config) -> CircuitBreakerLayer {
    let layer = breaker(config);
    fails_and_may_probe(&layer.handle()).await;
    layer
}

#[tokio::test(start_paused = true)]
async fn one_call_probes_and_the_others_are_refused() {
    let layer = ripe(touchy()).await;
    let (mut service, log) = behind(&layer, [Step::Held]);
    assert_eq!(layer.handle().state(), CircuitState::Open, "until the next call");
    let mut probe = begin(&mut service, Ask(0));
    assert_eq!(layer.handle().state(), CircuitState::HalfOpen);
    assert!(is_pending(&mut probe));
    for _ in 0..3 {
        let error = ask(&mut service).unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::CircuitOpen));
        assert_eq!(error.refusal().retry_after(), None, "the end of the probe is unknown");
    }
    log.open();
    assert_eq!(now(probe), Ok(1));
    assert_eq!(layer.handle().state(), CircuitState::Closed);
    assert_eq!(ask(&mut service), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn two_that_were_ready_for_the_one_place_get_one() {
    let (inner, log) = Scripted::new();
    log.then([Step::Held]);
    let layer = ripe(touchy()).await;
    let (mut a, mut b) = (layer.layer(inner.clone()), layer.layer(inner));
    let waiter = crate::support::Waiter::new();
    assert!(waiter.poll_ready(&mut a).is_ready());
    assert!(waiter.poll_ready(&mut b).is_ready());
    let mut first = Box::pin(tower::Service::call(&mut a, Ask(0)));
    let second = tower::Service::call(&mut b, Ask(0));
    assert!(is_pending(&mut first));
    assert_eq!(now(second).unwrap_err().kind(), Some(ErrorKind::CircuitOpen));
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_opens_again_and_takes_back_the_progress() {
    let layer = ripe(touchy().successes_to_close(2)).await;
    let (mut service, _) = behind(&layer, [Step::Answer, Step::Fail, Step::Answer, Step::Answer]);
    assert!(ask(&mut service).is_ok());
    assert_eq!(layer.handle().state(), CircuitState::HalfOpen, "one of two");
    assert!(ask(&mut service).is_err());
    assert_eq!(layer.handle().state(), CircuitState::Open);
    let left = layer.handle().check().unwrap_err().retry_after();
    assert_eq!(left, Some(ms(100)), "the whole open time");
    tokio::time::advance(ms(100)).await;
    assert!(ask(&mut service).is_ok());
    assert_eq!(layer.handle().state(), CircuitState::HalfOpen, "one of two again");
    assert!(ask(&mut service).is_ok());
    assert_eq!(layer.handle().state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_hung_probe_is_replaced_when_its_lease_ends() {
    let layer = ripe(touchy().probe_lease(ms(500))).await;
    let (mut service, log) = behind(&layer, [Step::FailAfter(600), Step::Held]);
    let mut hung = begin(&mut service, Ask(0));
    assert!(is_pending(&mut hung));
    tokio::time::advance(ms(499)).await;
    assert_eq!(ask(&mut service).unwrap_err().kind(), Some(ErrorKind::CircuitOpen));
    tokio::time::advance(ms(1)).await;
    let mut second = begin(&mut service, Ask(0));
    assert!(is_pending(&mut second));
    assert!(ask(&mut service).is_err(), "the place is taken again");
    tokio::time::advance(ms(100)).await;
    assert!(now(hung).is_err());
    assert_eq!(layer.handle().state(), CircuitState::HalfOpen, "the replaced probe says nothing");
    log.open();
    assert!(now(second).is_ok());
    assert_eq!(layer.handle().state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_gives_its_place_back() {
    for polls in [0, 1] {
        let layer = ripe(touchy()).await;
        let (mut service, _) = behind(&layer, [Step::Never]);
        let mut probe = begin(&mut service, Ask(0));
        (0..polls).for_each(|_| assert!(is_pending(&mut probe)));
        drop(probe);
        assert_eq!(layer.handle().state(), CircuitState::HalfOpen);
        assert_eq!(ask(&mut service), Ok(2), "the next probe");
        assert_eq!(layer.handle().state(), CircuitState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_ignored_probe_gives_its_place_back() {
    let layer = ripe(touchy()).await;
    let handle = layer.handle();
    handle.try_acquire().unwrap().settle(Outcome::Ignored, || None);
    assert_eq!(handle.state(), CircuitState::HalfOpen);
    assert!(handle.check().is_ok(), "the place is free");
    handle.try_acquire().unwrap().success();
    assert_eq!(handle.state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_slow_probe_opens_again() {
    let config = Config::new().slow_calls(ms(50), 1.0).count_window(1).min_calls(1);
    let layer = breaker(config.open_for(ms(100)));
    fails_and_may_probe(&layer.handle()).await;
    let (inner, log) = Scripted::new();
    log.then([Step::AnswerAfter(50)]);
    let mut probe = begin(&mut layer.layer(inner), Ask(0));
    assert!(is_pending(&mut probe));
    tokio::time::advance(ms(50)).await;
    assert!(now(probe).is_ok());
    assert_eq!(layer.handle().state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn several_probes_run_where_several_may() {
    let layer = ripe(touchy().half_open_calls(2).successes_to_close(2)).await;
    let (mut service, log) = behind(&layer, []);
    log.always(Step::Held);
    let mut first = begin(&mut service, Ask(0));
    let mut second = begin(&mut service, Ask(0));
    assert!(is_pending(&mut first) && is_pending(&mut second));
    assert!(ask(&mut service).is_err());
    log.open();
    assert!(now(first).is_ok());
    assert_eq!(layer.handle().state(), CircuitState::HalfOpen);
    assert!(now(second).is_ok());
    assert_eq!(layer.handle().state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_open_time_grows_to_its_limit_and_closing_takes_it_back() {
    let layer = breaker(touchy().growing(2.0, ms(350)));
    let handle = layer.handle();
    handle.try_acquire().unwrap().failure();
    for open in [100, 200, 350, 350] {
        assert_eq!(handle.check().unwrap_err().retry_after(), Some(ms(open)));
        tokio::time::advance(ms(open)).await;
        handle.try_acquire().unwrap().failure();
    }
    tokio::time::advance(ms(350)).await;
    handle.try_acquire().unwrap().success();
    handle.try_acquire().unwrap().failure();
    assert_eq!(handle.check().unwrap_err().retry_after(), Some(ms(100)));
}

/// Every failure carries this hint.
#[derive(Clone)]
struct Hinted(Duration);

impl Classify<u32, AppError> for Hinted {
    fn classify(&self, result: &Result<u32, AppError>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }

    fn retry_after(&self, _: &Result<u32, AppError>) -> Option<Duration> {
        Some(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_of_the_failure_keeps_it_open_where_that_is_wanted() {
    let hinted = touchy().honour_hint(ms(400));
    for (config, hint, open) in [
        (touchy(), 300, 100),
        (hinted.clone(), 300, 300),
        (hinted.clone(), 50, 100),
        (hinted, 500, 400),
    ] {
        let layer = breaker(config);
        let handle = layer.handle();
        let (mut service, log) = behind(&layer.classify(Hinted(ms(hint))), []);
        log.always(Step::Fail);
        assert!(ask(&mut service).is_err());
        assert_eq!(handle.check().unwrap_err().retry_after(), Some(ms(open)), "hint {hint}");
    }
}
