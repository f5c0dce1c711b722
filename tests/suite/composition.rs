//! Combinations of layers: in every order, over every type, each layer keeps its guarantee.

use std::convert::Infallible;

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::fallback::FallbackLayer;
use buttress::rate_limit::RateLimitLayer;
use buttress::retry::{self, Backoff, RetryLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{AsRefusal, ErrorKind, Outcome, as_response, classify_fn};
use tower::{BoxError, Layer, Service, ServiceBuilder};

use crate::support::{AppError, Ask, Once, Scripted, Step, begin, call, ms, now, soon};

/// The first layer is the outermost.
macro_rules! stack {
    ($inner:expr; $($layer:expr),+ $(,)?) => {
        ServiceBuilder::new()$(.layer($layer))+.service($inner)
    };
}

mod order;

fn time_limit(limit: u64) -> TimeLimitLayer {
    TimeLimitLayer::new(time_limit::Config::new(ms(limit))).unwrap()
}

fn retrying(wait: u64) -> RetryLayer {
    let backoff = if wait == 0 { Backoff::none() } else { Backoff::fixed(ms(wait)) };
    RetryLayer::new(retry::Config::new().backoff(backoff)).unwrap()
}

fn breaker(failures: u32) -> CircuitBreakerLayer {
    let config = circuit_breaker::Config::new().consecutive_failures(failures).open_for(ms(1000));
    CircuitBreakerLayer::new(config).unwrap()
}

fn bulkhead(limit: u32) -> BulkheadLayer {
    BulkheadLayer::new(bulkhead::Config::new().max_concurrent(limit)).unwrap()
}

/// Checks that the types are preserved, whatever the layers and their order.
fn keeps_types<S, Req, E>(service: S) -> S
where
    S: Service<Req, Response = u32, Error = E>,
{
    service
}

#[tokio::test(start_paused = true)]
async fn the_full_stack_passes_a_call_and_saves_a_failing_one() {
    let (inner, log) = Scripted::new();
    log.then([Step::Answer, Step::Fail, Step::Fail, Step::Answer]).always(Step::Fail);
    let fallback = FallbackLayer::value(99u32);
    let mut service = keeps_types::<_, Ask, AppError>(stack!(inner;
        fallback.clone(), RateLimitLayer::default(), breaker(5), bulkhead(10), retrying(10),
        time_limit(100)));
    assert_eq!(call(&mut service, Ask(0)).await, Ok(1));
    assert_eq!(call(&mut service, Ask(0)).await, Ok(4), "the third attempt");
    assert_eq!(call(&mut service, Ask(0)).await, Ok(99), "three failed attempts");
    assert_eq!(log.at(), [0, 0, 10, 20, 20, 30, 40]);
    assert_eq!(fallback.handle().stats().used, 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_layers_stack_in_other_orders() {
    macro_rules! orders {
        ($(($($layer:expr),+))+) => { $(
            let (inner, log) = Scripted::new();
            log.then([Step::Fail]);
            let service = stack!(inner; $($layer),+);
            let mut service = keeps_types::<_, Ask, AppError>(service);
            assert_eq!(soon(call(&mut service, Ask(0))).await, Ok(2));
        )+ };
    }
    let (limiter, fallback) = (RateLimitLayer::default(), FallbackLayer::value(99u32));
    orders! {
        (fallback.clone(), limiter.clone(), breaker(5), bulkhead(10), retrying(1), time_limit(100))
        (time_limit(100), retrying(1), bulkhead(10), breaker(5), limiter.clone(), time_limit(100))
        (limiter.clone(), retrying(1), time_limit(100), breaker(5), bulkhead(10))
        (bulkhead(10), time_limit(100), breaker(5), retrying(1), limiter.clone())
        (breaker(5), breaker(5), retrying(1), retrying(1), time_limit(90), time_limit(80))
        (limiter.clone().queued(), bulkhead(10).queued(), retrying(1), breaker(5).backpressure())
        (limiter.clone().backpressure(), bulkhead(10).backpressure(), retrying(1), bulkhead(10))
    }
}

#[tokio::test(start_paused = true)]
async fn a_stack_over_boxed_errors_says_what_refused() {
    let (inner, log) = Scripted::<BoxError, Ask>::of();
    log.always(Step::Fail);
    let service = stack!(inner; breaker(3), bulkhead(10), retrying(0), time_limit(100));
    let mut service = keeps_types::<_, Ask, BoxError>(service);
    for _ in 0..3 {
        let error = call(&mut service, Ask(0)).await.unwrap_err();
        assert_eq!(error.to_string(), "scripted failure");
    }
    let error = call(&mut service, Ask(0)).await.unwrap_err();
    assert_eq!(error.as_refusal().unwrap().kind(), ErrorKind::CircuitOpen);
    assert_eq!(log.calls(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_stack_over_a_service_that_cannot_fail_answers_in_its_own_terms() {
    let (inner, log) = Scripted::<Infallible, Ask>::of();
    log.always(Step::Never);
    let status = |code: u32| as_response(move |_: buttress::Error| code);
    let failed = classify_fn(|result: &Result<u32, Infallible>| match result {
        Ok(504) => Outcome::Failure,
        _ => Outcome::Success,
    });
    let service = stack!(inner;
        breaker(1).classify(failed).reject(status(503)),
        bulkhead(1).reject(status(529)),
        time_limit(50).reject(status(504)));
    let mut service = keeps_types::<_, Ask, Infallible>(service);
    let mut running = begin(&mut service, Ask(0));
    assert!(crate::support::is_pending(&mut running));
    assert_eq!(call(&mut service, Ask(0)).await, Ok(529));
    assert_eq!(soon(running).await, Ok(504));
    assert_eq!(call(&mut service, Ask(0)).await, Ok(503));
    assert_eq!(log.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stack_passes_a_request_that_is_not_clone() {
    let (inner, log) = Scripted::<AppError, Once>::of();
    log.then([Step::Answer, Step::Fail]);
    let service = stack!(inner;
        FallbackLayer::from_error(|_: AppError| 99u32),
        RateLimitLayer::default().queued(),
        breaker(5),
        bulkhead(10).queued(),
        retrying(0).clone_request(|_: &Once| None),
        time_limit(100));
    let mut service = keeps_types::<_, Once, AppError>(service);
    assert_eq!(call(&mut service, Once).await, Ok(1));
    assert_eq!(call(&mut service, Once).await, Ok(99));
    assert_eq!(log.calls(), 2, "one attempt each");
}

#[tokio::test(start_paused = true)]
async fn a_layer_can_be_left_out_with_option_layer() {
    for (wanted, answer) in [(Some(bulkhead(1)), false), (None, true)] {
        let _busy = wanted.as_ref().map(|layer| layer.handle().try_acquire().unwrap());
        let (inner, _log) = Scripted::<BoxError, Ask>::of();
        let mut service = ServiceBuilder::new().option_layer(wanted).service(inner);
        assert_eq!(now(begin(&mut service, Ask(0))).is_ok(), answer);
    }
}

/// Both layers share one state, as all services of the layer do.
#[tokio::test(start_paused = true)]
async fn a_layer_applied_twice_takes_twice_from_its_one_state() {
    let limiter = RateLimitLayer::default();
    let (inner, _log) = Scripted::new();
    let mut service = stack!(inner; limiter.clone(), limiter.clone());
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    assert_eq!(limiter.handle().available(), 8);

    let two = bulkhead(2);
    let (inner, _log) = Scripted::new();
    let mut service = stack!(inner; two.clone(), two.clone());
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    assert_eq!((two.handle().stats().peak_active, two.handle().stats().active), (2, 0));
    let one = bulkhead(1);
    let mut service = one.layer(one.layer(Scripted::new().0));
    let error = now(begin(&mut service, Ask(0))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::BulkheadFull), "refused, not deadlocked");
}
