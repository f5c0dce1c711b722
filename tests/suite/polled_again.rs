//! A future that is polled after it has ended panics with its name. It never waits for a wake-up that cannot
//! come.

use std::any::Any;
use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::task::{Context, Waker};
use std::time::Duration;

use buttress::aggregate::Aggregate;
use buttress::balance;
use buttress::discover::Instance;
use buttress::fallback::FallbackLayer;
use buttress::gateway::{Gateway, Route};
use buttress::idempotency::{self, Encoded, IdempotencyLayer, Key, MemoryStore};
use buttress::retry::{Backoff, RetryLayer};
use buttress::sidecar::SidecarLayer;
use buttress::time_limit::TimeLimitLayer;
use buttress::{Clock, Json, bulkhead, circuit_breaker, rate_limit, retry};
use buttress_durable::{bus, dispatch, outbox, saga};
use tower::{BoxError, Layer, Service, service_fn};

use crate::architecture::sources::each_file;

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
async fn a_balancer_panics_with_its_name() {
    let name = named("balance::ResponseFuture");
    let set = balance::Endpoints::new();
    set.replace(&[Instance::at("a")], |_| {
        answers!(|it| if it == 7 { Ok(7) } else { Err("down".into()) })
    });
    let mut service = balance::Balance::new(set, balance::Config::new()).unwrap();
    for request in [7, 8] {
        assert_eq!(again(service.call(request)).await, name, "{request}");
    }
    let none = balance::Endpoints::new();
    none.replace(&[], |_| answers!(Ok));
    let mut service = balance::Balance::new(none, balance::Config::new()).unwrap();
    assert_eq!(again(service.call(7)).await, name, "after a refusal");
}

#[tokio::test(start_paused = true)]
async fn an_aggregate_panics_with_its_name() {
    let name = named("aggregate::ResponseFuture");
    let part = || answers!(|it| if it == 7 { Ok(7) } else { Err("down".into()) });
    let page = Aggregate::builder().required("a", part()).optional("b", part());
    let mut page = page.build().unwrap();
    for request in [7, 8] {
        assert_eq!(again(page.call(request)).await, name, "{request}");
    }
    let silent = service_fn(|_: u32| pending::<Result<u32, BoxError>>());
    let mut page = Aggregate::builder().required("a", silent).build().unwrap();
    assert_eq!(again(page.call(7)).await, name, "after its limit");
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
    // A store that is waited for: the call waits before its handler, and before its answer.
    let store = Encoded::new(MemoryStore::<Vec<u8>>::default(), Json);
    let layer = IdempotencyLayer::new(idempotency::Config::new(), store, key).unwrap();
    for _ in 0..2 {
        let polled = again(response(&layer, answers!(Ok)).await).await;
        assert_eq!(polled, named("idempotency::ResponseFuture"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_panics_with_its_name() {
    fn seven(request: &u32) -> Option<&str> {
        (*request == 7).then_some("7")
    }
    let gateway = || {
        let route = Route::new("7").backend(answers!(Ok));
        Gateway::new("edge", Clock::default(), seven, [route]).unwrap()
    };
    for request in [7, 8] {
        assert_eq!(again(gateway().call(request)).await, named("gateway::ResponseFuture"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_admitted_ends_as_its_service_does() {
    // The layer holds only the future of the service, which panics with its own message.
    let layer = bulkhead::Config::new().build().unwrap();
    let service = service_fn(async |request: u32| Ok::<u32, BoxError>(request));
    let polled = again(response(&layer, service).await).await;
    assert!(polled.contains("resumed after completion"), "{polled}");
}

#[tokio::test(start_paused = true)]
async fn a_dispatched_request_panics_with_its_name() {
    struct Ask;
    impl dispatch::Request for Ask {
        type Response = u32;
        type Error = BoxError;
    }
    let handler = service_fn(|_: Ask| ready(Ok(7)));
    let name = named("dispatch::ResponseFuture");
    let known = dispatch::Dispatch::builder().on::<Ask, _>(handler).unwrap().build().unwrap();
    assert_eq!(again(known.send(Ask)).await, name);
    assert_eq!(again(known.handler().unwrap().call(Ask)).await, name);
    let empty = dispatch::Dispatch::builder().build().unwrap();
    assert_eq!(again(empty.send(Ask)).await, name, "without a handler");
}

#[tokio::test(start_paused = true)]
async fn a_publication_panics_with_its_name() {
    let new = outbox::NewMessage::new(outbox::MessageId::new(1), "order-7", "paid");
    let message = outbox::Message::new(new, 0, 0, Duration::ZERO);
    assert_eq!(again(bus::Bus::new().publish(message)).await, named("bus::Publish"));
}

#[tokio::test(start_paused = true)]
async fn an_execution_panics_with_its_name() {
    let mut definition = saga::Definition::<u32>::builder("test", 1);
    let answers = service_fn(async |call: saga::Call<u32>| Ok::<u32, BoxError>(*call.request()));
    definition.step("a").action((), answers, |input: &u32, ()| *input).add();
    let sagas = saga::Executor::in_memory(definition.build().unwrap(), saga::Config::new());
    let execution = sagas.unwrap().start(7).await.unwrap();
    assert_eq!(again(execution).await, named("Execution"));
}

/// Regression: it was pending forever, without a waker.
#[tokio::test(start_paused = true)]
async fn a_scripted_response_panics_with_its_name() {
    let (mut service, script) =
        buttress_sim::scripted::Scripted::<u32, u32, BoxError>::new(Clock::default());
    script.then([buttress_sim::scripted::Step::answer(1)]);
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    assert_eq!(again(service.call(7)).await, named("ScriptedFuture"));
}

#[tokio::test(start_paused = true)]
async fn what_a_circuit_or_a_clock_reports_it_reports_again() {
    let circuit = circuit_breaker::Config::new().build().unwrap().handle();
    let mut changed = Box::pin(circuit.changed());
    circuit.force_open();
    let mut sleep = Box::pin(Clock::default().sleep(Duration::from_millis(1)));
    sleep.as_mut().await;
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        assert!(changed.as_mut().poll(&mut cx).is_ready());
        assert!(sleep.as_mut().poll(&mut cx).is_ready());
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_in_vain_panics_with_its_name() {
    let config = bulkhead::Config::new().max_concurrent(1).queue(1);
    let full = config.max_wait(Duration::from_millis(5)).build().unwrap().queued();
    let _running = full.handle().try_acquire().unwrap();
    assert_eq!(again(response(&full, answers!(Ok)).await).await, named("bulkhead::ResponseFuture"));
}

/// Behaviour of a public future that is polled after its end.
#[derive(Clone, Copy, PartialEq, Debug)]
enum After {
    /// The future panics with its own name.
    Name,
    /// The future polls the future that it holds, which panics with its own words.
    Inner,
    /// The future returns its result again.
    Again,
}

/// Every public future of the crates.
const FUTURES: [(&str, After); 40] = [
    ("buttress-durable/bus/publish.rs Publish", After::Name),
    ("buttress-durable/dispatch/future.rs ResponseFuture", After::Name),
    ("buttress-durable/saga/run/call.rs LeafFuture", After::Inner),
    ("buttress-durable/saga/run/execution.rs Execution", After::Name),
    ("buttress-http/context/server.rs ServerContextFuture", After::Name),
    ("buttress-http/grpc/deadline.rs DeadlineFuture", After::Name),
    ("buttress-http/idempotency_key/future.rs ResponseFuture", After::Name),
    ("buttress-http/idempotency_key/tape.rs Recording", After::Name),
    ("buttress-http/mapped.rs MappedFuture", After::Inner),
    ("buttress-http/status/buttons.rs ButtonsFuture", After::Inner),
    ("buttress-sim/crash/guarded.rs Guarded", After::Name),
    ("buttress-sim/crash/process.rs Alive", After::Name),
    ("buttress-sim/executor/named.rs Named", After::Inner),
    ("buttress-sim/inject/participant.rs RecordingFuture", After::Inner),
    ("buttress-sim/link.rs LinkFuture", After::Name),
    ("buttress-sim/scripted/service.rs ScriptedFuture", After::Name),
    ("buttress-sim/server/future.rs StationFuture", After::Name),
    ("buttress/aggregate/future.rs ResponseFuture", After::Name),
    ("buttress/balance/future.rs ResponseFuture", After::Name),
    ("buttress/circuit_breaker/changed.rs Changed", After::Again),
    ("buttress/circuit_breaker/future.rs ResponseFuture", After::Name),
    ("buttress/context/scoped.rs Scoped", After::Name),
    ("buttress/fallback/future.rs ResponseFuture", After::Name),
    ("buttress/fallback/recover.rs ServiceFuture", After::Name),
    ("buttress/gateway/future.rs ResponseFuture", After::Name),
    ("buttress/idempotency/call.rs Waiting", After::Name),
    ("buttress/idempotency/detached.rs OnTask", After::Inner),
    ("buttress/idempotency/future.rs ResponseFuture", After::Name),
    ("buttress/idempotency/handler.rs Handler", After::Name),
    ("buttress/machinery/limited.rs ResponseFuture", After::Name),
    ("buttress/machinery/queued/future.rs QueuedFuture", After::Name),
    ("buttress/retry/future.rs ResponseFuture", After::Name),
    ("buttress/shadow/future.rs ResponseFuture", After::Inner),
    ("buttress/sidecar/attempt.rs AnswerFuture", After::Inner),
    ("buttress/sidecar/future.rs ResponseFuture", After::Name),
    ("buttress/split/future.rs ResponseFuture", After::Inner),
    ("buttress/telemetry/durations.rs ResponseFuture", After::Inner),
    ("buttress/time_limit/future.rs Limited", After::Name),
    ("buttress/time_limit/future.rs ResponseFuture", After::Name),
    ("buttress/vocabulary/clock.rs Sleep", After::Again),
];

/// Returns the names of the public futures in a source file.
fn public_futures(text: &str) -> impl Iterator<Item = &str> {
    let heads = text.lines().filter(|line| line.starts_with("impl"));
    let types = heads.filter_map(|line| line.split_once(" Future for ")).map(|(_, rest)| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    });
    types.filter(|of| {
        let head = format!("pub struct {of}");
        text.lines().any(|line| {
            let rest = line.trim_start().strip_prefix(&head);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
        })
    })
}

#[test]
fn every_public_future_is_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    let mut found = Vec::new();
    for member in ["buttress", "buttress-durable", "buttress-http", "buttress-sim"] {
        let folder = root.join(member).join("src");
        each_file(&folder, &format!("{member}/"), &mut |name, text| {
            if !name.contains("tests") {
                let has_panic = text.contains("polled_after_completion(");
                let futures = public_futures(text).map(|of| (format!("{name} {of}"), has_panic));
                found.extend(futures);
            }
        });
    }
    let known = |future: &str| FUTURES.iter().find(|(name, _)| *name == future);
    for (future, has_panic) in &found {
        let Some((_, after)) = known(future) else { panic!("{future} is not in the table") };
        assert_eq!(*after == After::Name, *has_panic, "{future}: {after:?}");
    }
    assert_eq!(found.len(), FUTURES.len(), "{found:?}");
}
