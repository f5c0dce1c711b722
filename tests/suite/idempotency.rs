//! Idempotency: one answer per key, its lifetime, and the results that are not kept.

mod contract;
mod detached;
mod faulty;
mod hangs;
mod late_stores;
mod lease;
mod memory;
mod not_kept;
mod outages;
mod stores;
mod taken_over;
mod threads;
mod transaction;
mod waiters;
mod waiting;

use std::sync::{Arc, Mutex};

use buttress::idempotency::{
    Answers, Config, Detached, Fingerprint, Handle, Idempotency, IdempotencyLayer, InvalidKey, Key,
    MemoryStore, Plain,
};
use buttress::{AsError, ErrorKind, Event, Name};
use tower::util::BoxCloneService;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};

use crate::support::{AppError, Ask, Scripted, Step, begin, behind, call, ms, now};

type ByAsk = fn(&Ask) -> Result<Key, InvalidKey>;
type Layered = IdempotencyLayer<ByAsk, u32>;
type Served = Idempotency<Scripted, ByAsk, u32, Answers, AsError, Plain>;

/// A layer whose handlers run with their callers, or on separate tasks.
enum Runs {
    WithCaller(Layered),
    Detached(IdempotencyLayer<ByAsk, u32, Answers, AsError, Detached<Plain>>),
}

impl Runs {
    fn new(layer: Layered, detached: bool) -> Self {
        if detached { Self::Detached(layer.detached()) } else { Self::WithCaller(layer) }
    }

    fn handle(&self) -> Handle {
        match self {
            Self::WithCaller(layer) => layer.handle(),
            Self::Detached(layer) => layer.handle(),
        }
    }
}

impl Layer<Scripted> for Runs {
    type Service = BoxCloneService<Ask, u32, AppError>;

    fn layer(&self, inner: Scripted) -> Self::Service {
        match self {
            Self::WithCaller(layer) => BoxCloneService::new(layer.layer(inner)),
            Self::Detached(layer) => BoxCloneService::new(layer.layer(inner)),
        }
    }
}

fn by_ask(ask: &Ask) -> Result<Key, InvalidKey> {
    Key::new(&ask.0.to_string())
}

fn config() -> Config {
    Config::new()
}

fn layer(config: Config) -> Layered {
    over(config, MemoryStore::default())
}

fn over(config: Config, store: MemoryStore<u32>) -> Layered {
    IdempotencyLayer::new(config, store, by_ask as ByAsk).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_first_call_runs_and_every_repetition_gets_its_answer() {
    let layer = layer(config());
    let (mut service, log) = behind(&layer, []);
    assert_eq!(now(begin(&mut service, Ask(7))).unwrap(), 1);
    for _ in 0..3 {
        assert_eq!(now(begin(&mut service, Ask(7))).unwrap(), 1);
    }
    assert_eq!(now(begin(&mut service, Ask(8))).unwrap(), 2, "another key runs");
    assert_eq!((log.calls(), log.clones()), (2, 0));
    let stats = layer.handle().stats();
    assert_eq!((stats.started, stats.replayed, stats.refused), (2, 3, 0));
    let size = stats.store.unwrap();
    assert_eq!((size.in_flight, size.stored, size.evicted), (0, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_its_lifetime_to_the_instant() {
    let (mut service, log) = behind(&layer(config().result_lifetime(ms(1000))), []);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    tokio::time::advance(ms(999)).await;
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    tokio::time::advance(ms(1)).await;
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 2, "the lifetime counts from completion");
    assert_eq!(log.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_default_lifetime_is_300_seconds_from_the_answer_on() {
    let (mut service, _) = behind(&layer(config()), [Step::AnswerAfter(5000)]);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    tokio::time::advance(ms(299_999)).await;
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    tokio::time::advance(ms(1)).await;
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn errors_are_not_kept_and_free_the_key() {
    let layer = layer(config());
    let (mut service, _) = behind(&layer, [Step::Fail, Step::Answer]);
    let error = call(&mut service, Ask(7)).await.unwrap_err();
    assert_eq!(error, AppError::Broken("scripted failure"));
    assert_eq!(layer.handle().stats().store.unwrap().in_flight, 0);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 2);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 2);
    let stats = layer.handle().stats();
    assert_eq!((stats.started, stats.failed, stats.replayed), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn results_are_kept_where_a_closure_says_so() {
    let (inner, log) = Scripted::new();
    log.then([Step::Fail, Step::Answer]);
    let store = MemoryStore::<Result<u32, AppError>>::default();
    let layer = IdempotencyLayer::new(config(), store, by_ask)
        .unwrap()
        .keep_results(|_: &Result<u32, AppError>| true);
    let mut service = layer.layer(inner);
    for _ in 0..2 {
        let error = call(&mut service, Ask(7)).await.unwrap_err();
        assert_eq!(error, AppError::Broken("scripted failure"));
    }
    assert_eq!((log.calls(), layer.handle().stats().failed), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn answers_that_a_closure_turns_down_are_not_kept() {
    let (mut service, log) = behind(&layer(config()).keep_if(|answer: &u32| *answer > 1), []);
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(call(&mut service, Ask(7)).await.unwrap());
    }
    assert_eq!((answers, log.calls()), (vec![1, 2, 2], 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_may_be_made_of_the_answer() {
    let store = MemoryStore::<String>::default();
    let layer = IdempotencyLayer::new(config(), store, by_ask).unwrap().keep_as(
        |answer: &Result<u32, AppError>| answer.as_ref().ok().map(u32::to_string),
        |text: String| Ok(text.parse::<u32>().unwrap() + 1000),
    );
    let mut service = layer.layer(Scripted::new().0);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1001);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_passes_or_is_refused_where_one_is_required() {
    let key = |ask: &Ask| (ask.0 != 0).then(|| by_ask(ask));
    let (inner, log) = Scripted::new();
    let config = || config().name("pay").count_calls(true);
    let layer = IdempotencyLayer::new(config(), MemoryStore::default(), key).unwrap();
    let mut service = layer.layer(inner.clone());
    assert_eq!(call(&mut service, Ask(0)).await.unwrap(), 1);
    assert_eq!(call(&mut service, Ask(0)).await.unwrap(), 2);
    assert_eq!(layer.handle().stats().passed, Some(2));

    let required = config().key_required(true);
    let layer = IdempotencyLayer::new(required, MemoryStore::default(), key).unwrap();
    let mut service = layer.layer(inner);
    let error = call(&mut service, Ask(0)).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::KeyMissing));
    assert_eq!(
        error.to_string(),
        "idempotency \"pay\": the request has no key, and the layer requires one"
    );
    assert!(error.refusal().never_reached_service());
    assert_eq!(log.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_used_is_refused_with_the_reason() {
    let cases = [
        (String::new(), "idempotency: the key is empty"),
        (
            "k".repeat(512),
            "idempotency: the key has 513 bytes with its scope, at most 512 are allowed",
        ),
        ("a\u{7f}".into(), "idempotency: the key holds the control character U+007F"),
    ];
    for (key, message) in cases {
        let layer =
            IdempotencyLayer::new(config(), MemoryStore::default(), move |_: &Ask| Key::new(&key));
        let (inner, log) = Scripted::new();
        let error = call(&mut layer.unwrap().layer(inner), Ask(7)).await.unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::KeyInvalid));
        assert_eq!(error.to_string(), message);
        assert_eq!(log.calls(), 0);
    }
}

/// The key of `Ask` is its tens; the whole number is the content of the request.
fn tens(ask: &Ask) -> Result<Key, InvalidKey> {
    Key::new(&(ask.0 / 10).to_string())
}

fn digest(ask: &Ask) -> Fingerprint {
    Fingerprint::of(&ask.0.to_le_bytes())
}

#[tokio::test(start_paused = true)]
async fn the_same_key_for_another_request_is_refused_in_flight_and_done() {
    let (inner, log) = Scripted::new();
    log.then([Step::AnswerAfter(100)]);
    let layer =
        IdempotencyLayer::new(config(), MemoryStore::default(), tens).unwrap().fingerprint(digest);
    let mut service = layer.layer(inner);
    let mut first = begin(&mut service, Ask(71));
    let error = now(begin(&mut service, Ask(72))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::KeyReused));
    assert_eq!(
        error.to_string(),
        "idempotency: the key was used for a request that asks for something else"
    );
    assert_eq!((&mut first).await.unwrap(), 1);
    let error = now(begin(&mut service, Ask(72))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::KeyReused));
    assert_eq!(call(&mut service, Ask(71)).await.unwrap(), 1);
    assert_eq!(log.calls(), 1);
    let stats = layer.handle().stats();
    assert_eq!((stats.refused, stats.mismatched), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn fingerprints_differ_only_where_both_are_there() {
    let some = |ask: &Ask| (ask.0 % 10 != 0).then(|| digest(ask));
    let layer =
        IdempotencyLayer::new(config(), MemoryStore::default(), tens).unwrap().fingerprint(some);
    let mut service = layer.layer(Scripted::new().0);
    assert_eq!(call(&mut service, Ask(71)).await.unwrap(), 1);
    assert_eq!(call(&mut service, Ask(70)).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn scopes_keep_keys_apart_in_one_store() {
    let store = MemoryStore::default();
    let (inner, log) = Scripted::new();
    let pay = over(config(), store.clone()).scope("pay");
    let ship = over(config(), store.clone()).scope("ship");
    let by_tens = over(config(), store.clone()).scope_by(|ask: &Ask| format!("{}", ask.0 / 10));
    let plain = over(config(), store.clone());
    assert_eq!(call(&mut pay.layer(inner.clone()), Ask(7)).await.unwrap(), 1);
    assert_eq!(call(&mut ship.layer(inner.clone()), Ask(7)).await.unwrap(), 2);
    assert_eq!(call(&mut by_tens.layer(inner.clone()), Ask(7)).await.unwrap(), 3);
    assert_eq!(call(&mut plain.layer(inner.clone()), Ask(7)).await.unwrap(), 4);
    assert_eq!(call(&mut pay.layer(inner.clone()), Ask(7)).await.unwrap(), 1);
    // A scope that is too long together with its key is rejected in the call.
    let long = plain.scope("s".repeat(512));
    let error = call(&mut long.layer(inner), Ask(7)).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::KeyInvalid));
    assert_eq!(log.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn every_service_of_a_layer_shares_its_keys() {
    let (inner, log) = Scripted::new();
    let layer = layer(config());
    let answers = [layer.layer(inner.clone()), layer.clone().layer(inner)];
    for mut service in answers {
        assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    }
    assert_eq!(log.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_composes_by_name_and_over_boxed_errors() {
    let layer =
        IdempotencyLayer::new(config(), MemoryStore::default(), |n: &u64| Key::new(&n.to_string()));
    let service = ServiceBuilder::new()
        .layer(layer.unwrap())
        .service_fn(async |n: u64| Ok::<u64, BoxError>(n + 1));
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 2);
    assert_eq!(service.oneshot(1).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn refusals_become_responses_where_nothing_can_fail() {
    let config = config().key_required(true);
    let layer = IdempotencyLayer::new(config, MemoryStore::default(), |_: &Ask| None::<Key>)
        .unwrap()
        .reject(buttress::as_response(|refusal| match refusal.kind() {
            ErrorKind::KeyMissing => 400,
            _ => 500,
        }));
    let (inner, _) = Scripted::<std::convert::Infallible, _>::of();
    assert_eq!(call(&mut layer.layer(inner), Ask(7)).await, Ok(400));
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let told = told.clone();
        move |layer: Name, event: &Event| told.lock().unwrap().push((layer, event.clone()))
    };
    let layer = layer(config().name("pay").observer(observer));
    let (mut service, _) = behind(&layer, [Step::FailAfter(10)]);
    let (first, second) = tokio::join!(begin(&mut service, Ask(7)), begin(&mut service, Ask(7)));
    assert!(first.is_err() && second.is_ok());
    call(&mut service, Ask(7)).await.unwrap();
    let pay = Name::from("pay");
    assert_eq!(*told.lock().unwrap(), [(pay, Event::TakenOver), (pay, Event::Replayed)]);
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let cases = [
        (Config::new().result_lifetime(ms(0)), "result-lifetime: 0s is not longer than zero"),
        (Config::new().lease(ms(0)), "lease: 0s is not longer than zero"),
        (Config::new().lease(ms(2)), "lease: 2 is not at least 3"),
        (Config::new().poll_interval(ms(0)), "poll-interval: 0s is not longer than zero"),
        (Config::new().store_attempts(0), "store-attempts: 0 is not at least 1"),
        (Config::new().patience(ms(0)), "patience: 0s is not longer than zero"),
        (Config::new().sweep(ms(0), 1), "sweep-interval: 0s is not longer than zero"),
        (Config::new().sweep(ms(1), 0), "sweep-batch: 0 is not at least 1"),
        (Config::new().max_detached(0), "max-detached: 0 is not at least 1"),
    ];
    for (config, message) in cases {
        let made = IdempotencyLayer::new(config, MemoryStore::<u32>::default(), by_ask);
        assert_eq!(made.unwrap_err().to_string(), message);
    }
    let year = std::time::Duration::from_secs(366 * 24 * 3600);
    let made = IdempotencyLayer::new(
        Config::new().longest_wait(year),
        MemoryStore::<u32>::default(),
        by_ask,
    );
    assert_eq!(made.unwrap_err().field(), "longest-wait");
    assert!(MemoryStore::<u32>::with_capacity(buttress::Clock::default(), 0).is_err());
}

/// Begins calls. All except the first wait, and do not clone the service.
fn begin_many(service: &mut Served, ask: Ask, many: usize) -> Vec<Calling> {
    (0..many).map(|_| begin(service, ask)).collect()
}

type Calling = std::pin::Pin<Box<<Served as Service<Ask>>::Future>>;
