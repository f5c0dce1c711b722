//! A future that is polled after it has ended panics with its name. It never waits for a wake-up that cannot
//! come.

use std::any::Any;
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Waker};
use std::time::Duration;

use buttress::fallback::FallbackLayer;
use buttress::idempotency::{self, IdempotencyLayer, Key, MemoryStore};
use buttress::retry::{Backoff, RetryLayer};
use buttress::sidecar::SidecarLayer;
use buttress::time_limit::TimeLimitLayer;
use buttress::{bulkhead, circuit_breaker, rate_limit, retry};
use tower::{BoxError, Layer, Service, service_fn};

fn text(panic: &(dyn Any + Send)) -> String {
    let owned = panic.downcast_ref::<String>().cloned();
    owned.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap()
}

/// Polls `future` to its end, and once more. Returns the message of the panic.
async fn again<F: Future>(future: F) -> String {
    let mut future = Box::pin(future);
    poll_fn(|cx| future.as_mut().poll(cx).map(drop)).await;
    let mut cx = Context::from_waker(Waker::noop());
    let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx).is_ready()));
    text(&*polled.expect_err("polled after completion"))
}

/// Returns the response to a request, through `layer` over a service that answers as `answer` says.
async fn response<L, S>(layer: &L, service: S) -> <L::Service as Service<u32>>::Future
where
    L: Layer<S>,
    L::Service: Service<u32>,
    <L::Service as Service<u32>>::Error: std::fmt::Debug,
{
    let mut service = layer.layer(service);
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    service.call(7)
}

macro_rules! answers {
    ($answer:expr) => {
        service_fn(|request: u32| ready(($answer as fn(u32) -> Result<u32, BoxError>)(request)))
    };
}

fn named(future: &str) -> String {
    format!("`{future}` polled after completion")
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_panics_with_its_name() {
    let full = bulkhead::Config::new().max_concurrent(1).build().unwrap();
    let _running = full.handle().try_acquire().unwrap();
    assert_eq!(again(response(&full, answers!(Ok)).await).await, named("bulkhead::ResponseFuture"));
    let spent = rate_limit::Config::new().max_tokens(1).build().unwrap();
    spent.handle().try_acquire(1).unwrap();
    assert_eq!(
        again(response(&spent, answers!(Ok)).await).await,
        named("rate_limit::ResponseFuture")
    );
    let open = circuit_breaker::Config::new().build().unwrap();
    open.handle().force_open();
    let polled = again(response(&open, answers!(Ok)).await).await;
    assert_eq!(polled, named("circuit_breaker::ResponseFuture"));
}

#[tokio::test(start_paused = true)]
async fn a_keyed_refusal_panics_with_the_name_of_its_pattern() {
    let key = |request: &u32| *request;
    let config = bulkhead::Config::new().max_concurrent(1);
    let full = bulkhead::KeyedBulkheadLayer::new(config, 1, key).unwrap();
    let _running = full.handle().try_acquire(&7).unwrap();
    assert_eq!(again(response(&full, answers!(Ok)).await).await, named("bulkhead::ResponseFuture"));
    let spent = rate_limit::KeyedRateLimitLayer::new(rate_limit::Config::new(), 1, key).unwrap();
    spent.handle().try_acquire(&7, 10).unwrap();
    assert_eq!(
        again(response(&spent, answers!(Ok)).await).await,
        named("rate_limit::ResponseFuture")
    );
    let open =
        circuit_breaker::KeyedCircuitBreakerLayer::new(circuit_breaker::Config::new(), 1, key);
    let open = open.unwrap();
    open.handle().try_acquire(&7).unwrap().success();
    open.handle().get(&7).unwrap().force_open();
    let polled = again(response(&open, answers!(Ok)).await).await;
    assert_eq!(polled, named("circuit_breaker::ResponseFuture"));
}

#[tokio::test(start_paused = true)]
async fn a_retry_panics_with_its_name() {
    let twice =
        || RetryLayer::new(retry::Config::new().attempts(2).backoff(Backoff::none())).unwrap();
    let name = named("retry::ResponseFuture");
    assert_eq!(again(response(&twice(), answers!(Ok)).await).await, name, "after a success");
    let failing = answers!(|_| Err("down".into()));
    assert_eq!(again(response(&twice(), failing).await).await, name, "after the last attempt");
    let once = RetryLayer::new(retry::Config::new().attempts(1)).unwrap();
    let failing = answers!(|_| Err("down".into()));
    assert_eq!(again(response(&once, failing).await).await, name, "after the only attempt");
}

#[tokio::test(start_paused = true)]
async fn a_call_cut_short_panics_with_its_name() {
    let limit = TimeLimitLayer::after(Duration::from_secs(1));
    let silent = service_fn(|_: u32| pending::<Result<u32, BoxError>>());
    assert_eq!(again(response(&limit, silent).await).await, named("time_limit::Limited"));
    let run = limit.handle().run(pending::<()>());
    assert_eq!(again(run).await, named("time_limit::Limited"));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_service_panics_with_its_name() {
    let failing = answers!(|_| Err("down".into()));
    let fallback = FallbackLayer::service(answers!(Ok));
    assert_eq!(again(response(&fallback, failing).await).await, named("fallback::ServiceFuture"));
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_panics_with_its_name() {
    let layer = SidecarLayer::default();
    assert_eq!(again(response(&layer, answers!(Ok)).await).await, named("sidecar::ResponseFuture"));
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_key_panics_with_its_name() {
    let config = idempotency::Config::new();
    let key = |request: &u32| Key::new(&request.to_string());
    let layer = IdempotencyLayer::new(config, MemoryStore::default(), key).unwrap();
    // The answer of a handler comes from a future of std, which panics itself.
    let handled = again(response(&layer, answers!(Ok)).await).await;
    assert!(handled.ends_with("polled after completion"), "{handled}");
    let replayed = again(response(&layer, answers!(Ok)).await).await;
    assert_eq!(replayed, named("idempotency::ResponseFuture"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_admitted_ends_as_its_service_does() {
    // The layer holds only the future of the service, which panics with its own message.
    let layer = bulkhead::Config::new().build().unwrap();
    let service = service_fn(async |request: u32| Ok::<u32, BoxError>(request));
    let polled = again(response(&layer, service).await).await;
    assert!(polled.contains("resumed after completion"), "{polled}");
}
