//! Calls whose handler has run and whose result cannot be kept: the handler does not run again.

use buttress::idempotency::{
    Config, Encoded, IdempotencyLayer, InvalidKey, Key, KeyClaim, MemoryStore, Store,
};
use buttress::{Codec, CodecError, ErrorKind, Event, Format, Name, StoreErrorKind};
use std::sync::Arc;
use tower::Layer;

use super::faulty::{Faulty, Plan};
use super::{Ask, ByAsk, Runs, Scripted, Step, begin, by_ask, call, config};
use crate::support::{AppError, Events, behind, is_pending, ms, now, soon};

/// A codec that encodes no number above 1.
#[derive(Clone, Copy)]
struct OnlyOne;

impl Format for OnlyOne {
    type Encoded = Vec<u8>;
    const NAME: &'static str = "only-one";
}

impl Codec<u32> for OnlyOne {
    fn encode(&self, value: &Arc<u32>) -> Result<Vec<u8>, CodecError> {
        match **value {
            1 => Ok(vec![1]),
            other => Err(CodecError::new(Self::NAME, other)),
        }
    }

    fn decode(&self, encoded: &Vec<u8>) -> Result<Arc<u32>, CodecError> {
        Ok(Arc::new(encoded.len() as u32))
    }
}

fn encoded(config: Config) -> IdempotencyLayer<ByAsk, u32> {
    let store = Encoded::new(MemoryStore::<Vec<u8>>::default(), OnlyOne);
    IdempotencyLayer::new(config, store, by_ask as fn(&Ask) -> Result<Key, InvalidKey>).unwrap()
}

/// Regression: the key was free after the lease had expired, and the handler ran twice.
#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_encoded_leaves_its_key_done() {
    let events = Events::default();
    let config =
        config().name("pay").result_lifetime(ms(60_000)).lease(ms(900)).observer(events.clone());
    let layer = encoded(config);
    let (mut service, log) = behind(&layer, []);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!(call(&mut service, Ask(8)).await.unwrap(), 2, "its caller gets the answer");
    tokio::time::advance(ms(59_999)).await;
    let error = call(&mut service, Ask(8)).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::ResultNotKept));
    let refusal = error.refusal();
    assert_eq!((refusal.retry_after(), refusal.never_reached_service()), (None, false));
    assert_eq!(
        refusal.to_string(),
        "idempotency \"pay\": a call with this key did its work, and its result was not kept"
    );
    assert_eq!(log.calls(), 2);
    let stats = layer.handle().stats();
    assert_eq!((stats.not_kept, stats.failed, stats.store_failed), (1, 0, 1));
    let is_told = |wanted: &Event| events.all().contains(wanted);
    assert!(is_told(&Event::ResultNotKept));
    assert!(is_told(&Event::StoreFailed { kind: StoreErrorKind::Invalid }));
    tokio::time::advance(ms(1)).await;
    assert_eq!(call(&mut service, Ask(8)).await.unwrap(), 3, "the lifetime is over");
}

#[tokio::test(start_paused = true)]
async fn running_again_has_to_be_asked_for() {
    let layer = encoded(config().rerun_if_not_kept(true));
    let (mut service, log) = behind(&layer, []);
    call(&mut service, Ask(7)).await.unwrap();
    for answer in 2..4 {
        assert_eq!(call(&mut service, Ask(8)).await.unwrap(), answer);
    }
    assert_eq!(log.calls(), 3);
    let stats = layer.handle().stats();
    assert_eq!((stats.not_kept, stats.failed), (2, 2));
}

/// Waiting calls get the answer, which is available although the store rejects it.
#[tokio::test(start_paused = true)]
async fn calls_that_wait_get_the_answer_and_those_that_come_later_a_refusal() {
    let store = Faulty::default();
    store.then("complete", Plan::Fails(StoreErrorKind::Invalid));
    let (inner, log) = Scripted::new();
    log.then([Step::AnswerAfter(100)]);
    let layer: IdempotencyLayer<ByAsk, u32> =
        IdempotencyLayer::new(config(), store.clone(), by_ask as ByAsk).unwrap();
    let mut service = layer.layer(inner);
    let first = tokio::spawn(begin(&mut service, Ask(7)));
    tokio::task::yield_now().await;
    let mut second = begin(&mut service, Ask(7));
    assert!(is_pending(&mut second));
    assert_eq!(soon(first).await.unwrap().unwrap(), 1);
    assert_eq!(soon(second).await.unwrap(), 1);
    assert_eq!(log.calls(), 1);
    // This store does not support results that are not kept: by default the key then stays in
    // flight.
    assert_eq!(store.asked().last(), Some(&"renew"));
}

/// A store without support holds the key for the lifetime nevertheless.
#[tokio::test(start_paused = true)]
async fn a_store_without_it_keeps_the_key_in_flight_for_the_lifetime() {
    let store = Faulty::default();
    store.then("complete", Plan::Fails(StoreErrorKind::Invalid));
    let config = config().lease(ms(900)).result_lifetime(ms(60_000)).refuse_in_flight(true);
    let layer: IdempotencyLayer<ByAsk, u32> =
        IdempotencyLayer::new(config, store, by_ask as ByAsk).unwrap();
    let (mut service, log) = behind(&layer, []);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    tokio::time::advance(ms(59_999)).await;
    let error = call(&mut service, Ask(7)).await.unwrap_err();
    assert_eq!((error.kind(), log.calls()), (Some(ErrorKind::KeyInFlight), 1));
}

/// Requests without a scope do not share a scope.
#[test]
fn a_request_without_a_scope_is_refused_and_shares_nothing() {
    let layer: IdempotencyLayer<_, u32> =
        IdempotencyLayer::new(config(), MemoryStore::default(), by_ask as ByAsk).unwrap();
    let layer = layer.scope_by(|ask: &Ask| if ask.0 == 7 { "" } else { "tenant" });
    let (mut service, log) = behind(&layer, []);
    let error: AppError = now(begin(&mut service, Ask(7))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::KeyInvalid));
    assert_eq!(
        error.to_string(),
        "idempotency: the request has no scope, and the layer requires one"
    );
    assert_eq!(now(begin(&mut service, Ask(8))).unwrap(), 1);
    assert_eq!(log.calls(), 1);
}

/// Regression: a caller that stored 10 001 results evicted the results of all others.
#[test]
fn one_scope_cannot_push_the_results_of_another_out() {
    for capacity in [2, 10, 10_000] {
        let clock = buttress::VirtualClock::new();
        let store: MemoryStore<usize> =
            MemoryStore::with_capacity(clock.clock(), capacity).unwrap();
        let done = |scope: &str, number: usize| {
            let key = Key::scoped(scope, &number.to_string()).unwrap();
            let claim = buttress::idempotency::ClaimId::new(number as u128);
            now(store.claim(KeyClaim::new(&key, claim), ms(1000))).unwrap();
            now(store.complete(KeyClaim::new(&key, claim), number, ms(60_000))).unwrap();
        };
        let held = |scope: &str, number: usize| {
            let key = Key::scoped(scope, &number.to_string()).unwrap();
            let claim = buttress::idempotency::ClaimId::new(number as u128);
            now(store.outcome(KeyClaim::new(&key, claim))).unwrap().is_some()
        };
        done("ann", 1);
        for number in 1..=capacity + 1 {
            done("mallory", number);
        }
        assert!(held("ann", 1), "of {capacity}");
        assert_eq!(Store::<usize>::size(&store).unwrap().stored, capacity);
        assert!(!held("mallory", 1) && held("mallory", capacity + 1), "its own oldest leave");
    }
}

/// An observer that panics costs its caller the answer, and never causes another run of the
/// handler.
#[tokio::test(start_paused = true)]
async fn a_panic_of_an_observer_does_not_free_the_key() {
    for detached in [false, true] {
        for asynchronous in [false, true] {
            for touchy in ["StoreFailed", "ResultNotKept"] {
                let observer = move |_: Name, event: &Event| {
                    assert!(!format!("{event:?}").starts_with(touchy), "the observer's own");
                };
                let config = config().result_lifetime(ms(60_000)).lease(ms(900));
                let config = config.refuse_in_flight(true).observer(observer);
                // The second store is slow, and does not support results that are not kept.
                let (layer, refusal) = match asynchronous {
                    false => (encoded(config), ErrorKind::ResultNotKept),
                    true => {
                        let store = Faulty::default();
                        store.then("complete", Plan::SlowReply(0));
                        store.then("complete", Plan::Fails(StoreErrorKind::Invalid));
                        let layer = IdempotencyLayer::new(config, store, by_ask as ByAsk).unwrap();
                        (layer, ErrorKind::KeyInFlight)
                    }
                };
                let (mut service, log) = behind(&Runs::new(layer, detached), []);
                assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
                let mut other = service.clone();
                let panics = tokio::spawn(async move { call(&mut other, Ask(8)).await });
                assert!(panics.await.unwrap_err().is_panic(), "{touchy}");
                tokio::time::advance(ms(1000)).await;
                let error = call(&mut service, Ask(8)).await.unwrap_err();
                let case = (touchy, detached, asynchronous);
                assert_eq!(error.kind(), Some(refusal), "{case:?}");
                assert_eq!(log.calls(), 2, "{case:?}");
            }
        }
    }
}
