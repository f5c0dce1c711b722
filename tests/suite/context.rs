//! The context of a request, and the parts of it that each pattern reads.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Instant;

use buttress::context::{Context, CorrelationId, Scoped, TraceContext};
use buttress::idempotency::{IdempotencyLayer, MemoryStore};
use buttress::retry::{Backoff, Jitter, RetryLayer};
use buttress::time_limit::TimeLimitLayer;
use buttress::{
    AnyError, Clock, Error, ErrorKind, Event, GaveUp, bulkhead, idempotency, rate_limit, retry,
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use crate::support::{AppError, Ask, Events, Scripted, Step, Waiter, is_pending, ms, now};

fn start() -> Instant {
    Clock::default().now()
}

fn until(left: u64) -> Context {
    Context::new().with_deadline(start() + ms(left))
}

/// Calls a service that is ready in `context`.
fn run_in<S: Service<Ask>>(context: Context, mut service: S, ask: Ask) -> Scoped<S::Future>
where
    S::Error: std::fmt::Debug,
{
    let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(service.poll_ready(cx), Poll::Ready(Ok(()))));
    context.run(&mut service, ask)
}

fn correlation() -> Option<String> {
    Context::peek(|context| context.correlation().map(ToString::to_string))
}

#[tokio::test(start_paused = true)]
async fn edge_1_11_a_time_limit_inside_a_shorter_deadline_ends_at_the_deadline_and_names_it() {
    let (inner, log) = Scripted::new();
    log.always(Step::Never);
    let layer =
        TimeLimitLayer::new(buttress::time_limit::Config::new(ms(100)).name("api")).unwrap();
    for (left, kind, text) in [
        (
            99,
            ErrorKind::DeadlineExceeded,
            r#"the deadline of the request passed after 99ms, in "api""#,
        ),
        (100, ErrorKind::TimedOut, r#"time limit "api" of 100ms passed"#),
        (500, ErrorKind::TimedOut, r#"time limit "api" of 100ms passed"#),
    ] {
        let begun = start();
        let service = layer.layer(inner.clone());
        let error: AppError = run_in(until(left), service, Ask(0)).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (Some(kind), text.to_owned()));
        assert_eq!(start() - begun, ms(left.min(100)));
        let refusal: &Error = error.refusal();
        assert_eq!((refusal.time_limit(), refusal.retry_after()), (Some(ms(left.min(100))), None));
        assert!(!refusal.never_reached_service());
    }
    assert_eq!(layer.handle().stats().timed_out, 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_makes_a_limit_longer() {
    let (inner, log) = Scripted::new();
    log.always(Step::Never);
    let layer = TimeLimitLayer::after(ms(400)).per_request(|_: &Ask| Some(ms(50)));
    let begun = start();
    let error: AppError = run_in(until(300), layer.layer(inner), Ask(0)).await.unwrap_err();
    assert_eq!((error.kind(), start() - begun), (Some(ErrorKind::TimedOut), ms(50)));
}

#[tokio::test(start_paused = true)]
async fn after_the_deadline_only_an_answer_passes_that_is_ready() {
    for (step, answers) in [(Step::Answer, true), (Step::Never, false)] {
        let (inner, log) = Scripted::new();
        log.always(step);
        let context = until(0);
        tokio::time::advance(ms(1)).await;
        let service = TimeLimitLayer::after(ms(100)).layer(inner);
        let answer: Result<u32, AppError> = now(run_in(context, service, Ask(0)));
        assert_eq!(answer.is_ok(), answers);
    }
}

fn hundred() -> retry::Config {
    retry::Config::new().backoff(Backoff::fixed(ms(100)).jitter(Jitter::None)).attempts(5)
}

#[tokio::test(start_paused = true)]
async fn edge_1_8_a_retry_that_would_begin_at_the_deadline_is_not_made() {
    for (left, calls, ends_at) in [(199, 2, 100), (200, 2, 100), (201, 3, 200)] {
        let events = Events::default();
        let (inner, log) = Scripted::new();
        log.always(Step::Fail);
        let layer = RetryLayer::new(hundred().observer(events.clone())).unwrap().classify(AnyError);
        let begun = start();
        let result: Result<u32, AppError> = run_in(until(left), layer.layer(inner), Ask(0)).await;
        assert_eq!(result, Err(AppError::Broken("scripted failure")), "the last result");
        assert_eq!((log.calls(), start() - begun), (calls, ms(ends_at)));
        let last = events.all().pop();
        let attempts = calls as u32;
        assert_eq!(last, Some(Event::RetriesExhausted { attempts, reason: GaveUp::Deadline }));
    }
}

#[tokio::test(start_paused = true)]
async fn edge_1_8_a_closure_that_is_attempted_heeds_the_deadline_too() {
    let layer = RetryLayer::new(hundred()).unwrap().classify(AnyError);
    let attempts = layer.run(|_| async { Err::<(), _>(AppError::Broken("scripted failure")) });
    let begun = start();
    let result = until(150).scope(attempts).await;
    assert_eq!((result, start() - begun), (Err(AppError::Broken("scripted failure")), ms(100)));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_in_a_queue_no_longer_than_its_deadline() {
    let (inner, log) = Scripted::new();
    log.always(Step::Never);
    let config = bulkhead::Config::new().max_concurrent(1).queue(4).max_wait(ms(500));
    let layer = config.build().unwrap().queued();
    let mut service = layer.layer(inner);
    let mut first = Service::<Ask>::call(&mut service, Ask(0));
    assert!(is_pending(&mut first));
    let begun = start();
    let error: AppError = run_in(until(120), &mut service, Ask(1)).await.unwrap_err();
    assert_eq!((error.kind(), start() - begun), (Some(ErrorKind::QueueTimeout), ms(120)));
    assert_eq!(error.refusal().time_limit(), Some(ms(120)));
    assert!(error.refusal().never_reached_service());
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_tokens_come_after_its_deadline_is_refused_without_waiting() {
    let (inner, log) = Scripted::new();
    log.always(Step::Answer);
    let config = rate_limit::Config::new().max_tokens(1).refill(1, ms(1000)).queue(4);
    let layer = config.max_wait(ms(5000)).build().unwrap().queued();
    let mut service = layer.layer(inner);
    assert!(service.ready().await.unwrap().call(Ask(0)).await.is_ok());
    let late = now(run_in(until(999), &mut service, Ask(1)));
    assert_eq!(late.unwrap_err().kind(), Some(ErrorKind::RateLimited));
    let mut in_time = Box::pin(run_in(until(1000), &mut service, Ask(2)));
    let waiter = Waiter::new();
    assert!(waiter.poll(&mut in_time).is_pending());
    tokio::time::advance(ms(1000)).await;
    assert!(now(in_time).is_ok());
}

#[tokio::test(start_paused = true)]
async fn edge_1_13_a_detached_handler_keeps_the_correlation_and_not_the_deadline() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let handler = service_fn(move |_: &'static str| {
        let sees = sees.clone();
        async move {
            Clock::default().sleep(ms(100)).await;
            sees.lock().unwrap().push((correlation(), Context::deadline()));
            Ok::<u32, BoxError>(7)
        }
    });
    let config = idempotency::Config::new().max_detached(4);
    let key = |request: &&'static str| idempotency::Key::new(request);
    let layer = IdempotencyLayer::new(config, MemoryStore::default(), key).unwrap().detached();
    let service = layer.layer(handler);
    let id: CorrelationId = "order-7".parse().unwrap();
    let mut call = Box::pin(until(50).with_correlation(id).scope(service.oneshot("key")));
    assert!(is_pending(&mut call));
    tokio::task::yield_now().await;
    drop(call); // the caller leaves
    tokio::time::advance(ms(100)).await;
    tokio::task::yield_now().await;
    assert_eq!(*seen.lock().unwrap(), [(Some("order-7".to_owned()), None)]);
}

#[test]
fn edge_1_1_a_message_carries_the_correlation_and_its_own_place_in_the_trace() {
    let store = buttress_durable::outbox::MemoryStore::new(Clock::default());
    let outbox = buttress_durable::outbox::Outbox::new(store);
    assert!(outbox.message("key", "payload").headers.is_empty());
    let trace = TraceContext::root();
    let context = Context::new().with_correlation("order-7".parse().unwrap());
    let context = context.with_trace(trace.clone());
    let message = context.sync_scope(|| outbox.message("key", "payload"));
    let [(name, id), (second, parent)] = &message.headers[..] else { panic!("{message:?}") };
    assert_eq!((name.as_str(), id.as_str()), ("x-correlation-id", "order-7"));
    assert_eq!(second, "traceparent");
    let parent: TraceContext = parent.parse().unwrap();
    assert_eq!(parent.trace_id(), trace.trace_id());
    assert_ne!(parent.parent_id(), trace.parent_id());
}
