//! The effects of the order of two layers.

use buttress::bulkhead::BulkheadLayer;
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::retry::{self, Backoff, RetryLayer};
use buttress::{CircuitState, ErrorKind, Outcome};
use tower::ServiceBuilder;

use super::{breaker, bulkhead, retrying, time_limit};
use crate::support::{Ask, Scripted, Step, Watch, begin, call, is_pending, ms, now, soon};

#[tokio::test(start_paused = true)]
async fn a_time_limit_around_a_breaker_around_a_slow_service_times_out() {
    for (dropped, state) in
        [(Outcome::Ignored, CircuitState::Closed), (Outcome::Failure, CircuitState::Open)]
    {
        let (inner, log) = Scripted::new();
        log.always(Step::Never);
        let config = circuit_breaker::Config::new().consecutive_failures(1);
        let circuit = CircuitBreakerLayer::new(config.dropped_calls(dropped)).unwrap();
        let mut service = stack!(inner; time_limit(100), circuit.clone());
        let watch = Watch::start();
        let error = call(&mut service, Ask(0)).await.unwrap_err();
        assert_eq!((error.kind(), watch.ms()), (Some(ErrorKind::TimedOut), 100));
        assert_eq!(circuit.handle().state(), state, "the call was dropped in there");
        assert_eq!(log.live(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_around_a_time_limit_counts_timeouts() {
    let (inner, log) = Scripted::new();
    log.always(Step::Never);
    let circuit = breaker(2);
    let mut service = stack!(inner; circuit.clone(), time_limit(100));
    for state in [CircuitState::Closed, CircuitState::Open] {
        let error = call(&mut service, Ask(0)).await.unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::TimedOut));
        assert_eq!(circuit.handle().state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_around_a_breaker_holds_its_limit() {
    let (inner, log) = Scripted::new();
    log.always(Step::Held);
    let (wall, circuit) = (bulkhead(2), breaker(1));
    let service = stack!(inner; wall.clone(), circuit.clone());
    let mut calls: Vec<_> = (0..5).map(|n| begin(&mut service.clone(), Ask(n))).collect();
    assert_eq!(calls.iter_mut().filter_map(|call| is_pending(call).then_some(())).count(), 2);
    assert_eq!((log.peak(), wall.handle().stats().active), (2, 2));
    // An open circuit refuses within a permit, and releases it immediately.
    circuit.handle().force_open();
    drop(calls);
    for _ in 0..4 {
        let error = now(begin(&mut service.clone(), Ask(0))).unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::CircuitOpen));
    }
    assert_eq!(wall.handle().stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_bulkhead_inside_does_not_open_the_breaker() {
    let (inner, log) = Scripted::new();
    log.always(Step::Held);
    let (circuit, wall) = (breaker(1), bulkhead(1));
    let mut service = stack!(inner; circuit.clone(), wall);
    let mut running = begin(&mut service, Ask(0));
    assert!(is_pending(&mut running));
    for _ in 0..10 {
        let error = now(begin(&mut service, Ask(0))).unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::BulkheadFull));
    }
    assert_eq!(circuit.handle().state(), CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_retry_around_a_breaker_does_not_repeat_an_open_circuit() {
    let (inner, log) = Scripted::new();
    log.always(Step::Fail);
    let (again, circuit) = (retrying(10), breaker(2));
    let mut service = stack!(inner; again.clone(), circuit.clone());
    let watch = Watch::start();
    let error = call(&mut service, Ask(0)).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::CircuitOpen), "the third attempt met it");
    assert_eq!((log.calls(), watch.ms(), circuit.handle().stats().refused), (2, 20, 1));
    let error = call(&mut service, Ask(0)).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::CircuitOpen));
    assert_eq!((watch.ms(), circuit.handle().stats().refused), (20, 2), "asked once");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_around_a_retry_counts_one_failure_for_all_attempts() {
    let (inner, log) = Scripted::new();
    log.always(Step::Fail);
    let circuit = breaker(2);
    let mut service = stack!(inner; circuit.clone(), retrying(0));
    assert!(call(&mut service, Ask(0)).await.is_err());
    assert_eq!((log.calls(), circuit.handle().stats().failures), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_inside_a_retry_is_for_each_attempt() {
    let (inner, log) = Scripted::new();
    log.then([Step::Never, Step::Never]);
    let mut service = stack!(inner; retrying(10), time_limit(100));
    assert_eq!(call(&mut service, Ask(0)).await, Ok(3));
    assert_eq!(log.at(), [0, 110, 220]);
    assert_eq!(log.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_outside_a_retry_is_for_all_attempts() {
    let (inner, log) = Scripted::new();
    log.always(Step::FailAfter(40));
    let mut service = stack!(inner; time_limit(100), retrying(10));
    let watch = Watch::start();
    let error = call(&mut service, Ask(0)).await.unwrap_err();
    assert_eq!((error.kind(), watch.ms()), (Some(ErrorKind::TimedOut), 100));
    assert_eq!(log.at(), [0, 50, 100], "the last one was about to begin");
}

#[tokio::test(start_paused = true)]
async fn a_retry_around_a_limiter_waits_for_its_token() {
    let (inner, log) = Scripted::new();
    let config = rate_limit::Config::new().max_tokens(1).refill(1, ms(70));
    let limiter = RateLimitLayer::new(config).unwrap();
    limiter.handle().try_acquire(1).unwrap();
    let mut service = stack!(inner; retrying(10), limiter);
    assert_eq!(call(&mut service, Ask(0)).await, Ok(1));
    assert_eq!(log.at(), [70], "the limiter's hint is a floor under the wait");
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_around_a_retry_keeps_its_permit_between_attempts() {
    for inside in [false, true] {
        let (inner, log) = Scripted::new();
        log.then([Step::Fail]);
        let wall = bulkhead(1);
        if inside {
            let mut service = stack!(inner; retrying(100), wall.clone());
            let mut response = begin(&mut service, Ask(0));
            assert!(is_pending(&mut response));
            assert_eq!(wall.handle().stats().active, 0, "free while nothing runs");
            assert!(soon(response).await.is_ok());
        } else {
            let mut service = stack!(inner; wall.clone(), retrying(100));
            let mut response = begin(&mut service, Ask(0));
            assert!(is_pending(&mut response));
            assert_eq!(wall.handle().stats().active, 1, "held until the call is over");
            assert!(soon(response).await.is_ok());
            assert_eq!(wall.handle().stats().active, 0);
        }
    }
}

/// A retry polls its clone ready again, and must not wait for its own permit.
#[tokio::test(start_paused = true)]
async fn a_retry_over_backpressure_gets_its_own_permit_back() {
    let (inner, log) = Scripted::new();
    log.then([Step::Fail, Step::Fail]);
    let wall: BulkheadLayer = bulkhead(1);
    let config = retry::Config::new().backoff(Backoff::none());
    let again = RetryLayer::new(config).unwrap();
    let mut service = stack!(inner; again, wall.clone().backpressure());
    assert_eq!(soon(call(&mut service, Ask(0))).await, Ok(3));
    assert_eq!(wall.handle().stats().active, 0);
}
