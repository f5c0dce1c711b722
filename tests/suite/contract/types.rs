//! Layers never change the user's types. All their types are `Send`, `Sync`, `Clone` and `Debug` if
//! the inner ones are.

use std::convert::Infallible;
use std::fmt::Debug;

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::fallback::{self, FallbackLayer};
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::retry::{self, RetryLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{AnyError, AsError, Outcome, as_response, classify_fn};
use tower::{BoxError, Layer, Service};

use super::{REFUSED, as_number};
use crate::support::{AppError, Ask, Call, Once, Scripted, Single, begin, ms, now};

fn time_limit() -> TimeLimitLayer {
    TimeLimitLayer::new(time_limit::Config::new(ms(100))).unwrap()
}

/// Checks that response and error types are preserved, and that a call passes.
fn keeps_the_types<L, S, Req>(layer: &L, inner: S, request: Req)
where
    S: Service<Req, Response = u32, Error: Debug>,
    L: Layer<S, Service: Service<Req, Response = u32, Error = S::Error>>,
{
    let mut service = layer.layer(inner);
    assert_eq!(now(begin(&mut service, request)).unwrap(), 1);
}

macro_rules! over {
    ($error:ty, $request:ident: $($layer:expr),+ $(,)?) => {
        $( keeps_the_types(&$layer, Scripted::<$error, _>::of().0, $request); )+
    };
}

#[tokio::test(start_paused = true)]
async fn every_layer_composes_with_boxed_errors() {
    let ask = Ask(0);
    over!(BoxError, ask:
        RetryLayer::default(),
        CircuitBreakerLayer::default(),
        CircuitBreakerLayer::default().backpressure(),
        RateLimitLayer::default(),
        RateLimitLayer::default().queued(),
        RateLimitLayer::default().backpressure(),
        BulkheadLayer::default(),
        BulkheadLayer::default().queued(),
        BulkheadLayer::default().backpressure(),
        time_limit(),
        FallbackLayer::value(0u32),
        FallbackLayer::from_error(|_: BoxError| 0u32),
        FallbackLayer::from_request(async |_: Ask, error: BoxError| Err::<u32, _>(error)),
        FallbackLayer::service(Scripted::<Infallible, _>::of().0),
    );
}

#[tokio::test(start_paused = true)]
async fn every_layer_composes_with_a_service_that_cannot_fail() {
    let ask = Ask(0);
    let never_fails = || classify_fn(|_: &Result<u32, Infallible>| Outcome::Success);
    let reject = || as_response(as_number);
    over!(Infallible, ask:
        RetryLayer::default().classify(never_fails()),
        CircuitBreakerLayer::default().classify(never_fails()).reject(reject()),
        CircuitBreakerLayer::default().classify(never_fails()).reject(reject()).backpressure(),
        RateLimitLayer::default().reject(reject()),
        RateLimitLayer::default().reject(reject()).queued(),
        RateLimitLayer::default().reject(reject()).backpressure(),
        BulkheadLayer::default().reject(reject()),
        BulkheadLayer::default().reject(reject()).queued(),
        BulkheadLayer::default().reject(reject()).backpressure(),
        time_limit().reject(reject()),
        FallbackLayer::value(0u32).classify(never_fails()),
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_fail_answers_refusals_as_responses() {
    let bulkhead = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(1)).unwrap();
    let _busy = bulkhead.handle().try_acquire().unwrap();
    let (inner, log) = Scripted::<Infallible, _>::of();
    let mut service = bulkhead.reject(as_response(as_number)).layer(inner);
    assert_eq!(now(begin(&mut service, Ask(0))), Ok(REFUSED));
    assert_eq!(log.calls(), 0);
}

/// Layers need no `Clone` service, except those that wait with one or call it again.
#[tokio::test(start_paused = true)]
async fn requests_and_services_that_are_not_clone_pass_every_layer_that_does_not_repeat_them() {
    macro_rules! single {
        ($($layer:expr),+ $(,)?) => {
            $( keeps_the_types(&$layer, Single(Scripted::<AppError, Once>::of().0), Once); )+
        };
    }
    single!(
        CircuitBreakerLayer::default(),
        CircuitBreakerLayer::default().backpressure(),
        RateLimitLayer::default(),
        RateLimitLayer::default().cost(|_: &Once| 2),
        RateLimitLayer::default().backpressure(),
        BulkheadLayer::default(),
        BulkheadLayer::default().backpressure(),
        time_limit(),
        time_limit().per_request(|_: &Once| Some(ms(1))),
        FallbackLayer::value(0u32),
        FallbackLayer::from_error(|_: AppError| 0u32),
    );
    over!(AppError, Once:
        RetryLayer::default().clone_request(|_: &Once| None),
        RateLimitLayer::default().queued(),
        BulkheadLayer::default().queued(),
    );
}

/// Layers need no bound on the response: neither `Clone` nor `Debug`.
#[tokio::test(start_paused = true)]
async fn responses_that_are_not_clone_pass_every_layer() {
    struct Stream(u32);

    let single = || tower::service_fn(async |Ask(n)| Ok::<_, AppError>(Stream(n)));
    macro_rules! streams {
        ($($layer:expr),+ $(,)?) => { $(
            let mut service = $layer.layer(single());
            assert_eq!(now(begin(&mut service, Ask(7))).unwrap().0, 7);
        )+ };
    }
    streams!(
        RetryLayer::default(),
        CircuitBreakerLayer::default(),
        RateLimitLayer::default().queued(),
        BulkheadLayer::default().queued(),
        time_limit(),
        FallbackLayer::from_error(|_: AppError| Stream(0)),
        FallbackLayer::service(single()),
    );
}

fn shared<T: Clone + Debug + Send + Sync + 'static>() {}

fn sent<T: Debug + Send + Sync + 'static>() {}

#[test]
fn handles_are_cheap_views_that_go_anywhere() {
    shared::<bulkhead::Handle>();
    shared::<circuit_breaker::Handle>();
    shared::<fallback::Handle>();
    shared::<rate_limit::Handle>();
    shared::<retry::Handle>();
    shared::<time_limit::Handle>();
    shared::<retry::Budget>();
    shared::<buttress::Clock>();
    shared::<buttress::Rng>();
    shared::<buttress::Error>();
    shared::<buttress::InvalidConfig>();
    sent::<bulkhead::Permit>();
    sent::<circuit_breaker::Admission>();
    sent::<buttress::Sleep>();
    shared::<bulkhead::Config>();
    shared::<circuit_breaker::Config>();
    shared::<fallback::Config>();
    shared::<rate_limit::Config>();
    shared::<retry::Config>();
    shared::<time_limit::Config>();
}

/// The futures have names, so that a struct can hold them without a box.
#[test]
fn response_futures_are_named_and_go_anywhere() {
    type Inner = std::future::Ready<Result<u32, AppError>>;
    sent::<bulkhead::ResponseFuture<Inner, AsError>>();
    sent::<bulkhead::QueuedFuture<Scripted, Ask, AsError>>();
    sent::<circuit_breaker::ResponseFuture<Inner, AnyError, AsError>>();
    sent::<rate_limit::ResponseFuture<Inner, AsError>>();
    sent::<rate_limit::QueuedFuture<Scripted, Ask, AsError>>();
    sent::<time_limit::ResponseFuture<Inner, AsError>>();
    sent::<time_limit::Limited<Inner>>();
    sent::<retry::ResponseFuture<Scripted, Ask, AnyError, retry::ByClone>>();
    sent::<fallback::ResponseFuture<Scripted, Ask, fallback::Value<u32>, AnyError>>();
    fn same<T: std::future::Future<Output = Result<u32, AppError>>>() {}
    same::<Call<AppError>>();
    same::<bulkhead::ResponseFuture<Inner, AsError>>();
}
