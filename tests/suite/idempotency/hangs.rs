//! A store that hangs: no caller waits longer than the patience, and an operation without an answer
//! is in doubt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use buttress::idempotency::{Config, IdempotencyLayer, StoreFailure, WithClaim};
use buttress::{Clock, ErrorKind};
use tower::{Layer, service_fn};

use super::faulty::{Faulty, Plan};
use super::{Ask, ByAsk, Layered, Scripted, Step, begin, by_ask, call, config};
use crate::support::{AppError, Watch, behind, ms};

const HANGS: [Plan; 2] = [Plan::Hangs, Plan::HangsUndone];

fn impatient() -> Config {
    config().patience(ms(900)).store_attempts(1)
}

fn over(config: Config, store: &Faulty) -> Layered {
    IdempotencyLayer::new(config, store.clone(), by_ask as ByAsk).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_hangs_refuses_the_call_and_holds_no_key() {
    for plan in HANGS {
        let store = Faulty::default();
        store.then("claim", plan);
        let (mut service, log) = behind(&over(impatient(), &store), []);
        let watch = Watch::start();
        let error = call(&mut service, Ask(7)).await.unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::StoreUnavailable));
        assert_eq!((watch.ms(), log.calls()), (900, 0));
        // The claim may exist, so the layer releases it.
        assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
        assert_eq!(watch.ms(), 900);
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_hangs_is_asked_for_again_in_the_same_patience() {
    let store = Faulty::default();
    store.then("claim", Plan::Hangs);
    let (mut service, log) = behind(&over(config().patience(ms(900)), &store), []);
    let watch = Watch::start();
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!((watch.ms(), log.calls()), (400, 1), "a third of 900 ms, and a poll interval");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_for_ever_holds_a_call_for_its_patience_however_often_it_is_asked() {
    for attempts in [1, 2, 3, 50] {
        let store = Faulty::default();
        for _ in 0..50 {
            store.then("claim", Plan::HangsUndone);
        }
        let config = config().patience(ms(900)).store_attempts(attempts);
        let mut service = over(config, &store).layer(Scripted::new().0);
        let watch = Watch::start();
        assert!(call(&mut service, Ask(7)).await.is_err());
        assert!(watch.ms() <= 900, "{attempts}: {}", watch.ms());
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_hangs_runs_unprotected_where_that_is_asked_for() {
    let store = Faulty::default();
    store.then("claim", Plan::HangsUndone);
    let (mut service, log) =
        behind(&over(impatient().store_failure(StoreFailure::Open), &store), []);
    let watch = Watch::start();
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!((watch.ms(), log.calls()), (900, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_storing_hangs_is_given_to_its_caller() {
    for plan in HANGS {
        let store = Faulty::default();
        store.then("complete", plan);
        let layer = over(impatient(), &store);
        let (mut service, log) = behind(&layer, []);
        let watch = Watch::start();
        assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
        assert_eq!((watch.ms(), log.calls()), (900, 1));
        assert_eq!(layer.handle().stats().store_failed, 1);
        if matches!(plan, Plan::Hangs) {
            assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1, "its effect stands");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_whose_release_hangs_is_given_to_its_caller() {
    let store = Faulty::default();
    store.then("release", Plan::HangsUndone);
    let (mut service, _) = behind(&over(impatient(), &store), [Step::Fail]);
    let watch = Watch::start();
    assert!(call(&mut service, Ask(7)).await.is_err());
    assert_eq!(watch.ms(), 900);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_is_tried_again_before_the_lease_ends() {
    let store = Faulty::default();
    store.then("renew", Plan::HangsUndone);
    let (mut service, _) =
        behind(&over(config().lease(ms(900)), &store), [Step::AnswerAfter(2500)]);
    let other = async {
        Clock::default().sleep(ms(1000)).await;
        call(&mut over(config().refuse_in_flight(true), &store).layer(Scripted::new().0), Ask(7))
            .await
    };
    let (first, second) = tokio::join!(begin(&mut service, Ask(7)), other);
    assert_eq!(first.unwrap(), 1);
    assert_eq!(second.unwrap_err().kind(), Some(ErrorKind::KeyInFlight), "it is still held");
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_hangs_ends_and_the_next_one_comes() {
    let store = Faulty::default();
    store.then("sweep", Plan::HangsUndone);
    let config = impatient().sweep(ms(1000), 10);
    let mut service = over(config, &store).layer(Scripted::new().0);
    for key in 0..4 {
        Clock::default().sleep(ms(1000)).await;
        call(&mut service, Ask(key)).await.unwrap();
    }
    Clock::default().sleep(ms(1000)).await;
    assert!(store.count("sweep") >= 2, "{:?}", store.asked());
}

/// Runs a handler with a completion whose answer is lost.
async fn in_a_transaction(
    plan: Plan,
    commits: bool,
    heeds: bool,
) -> (Faulty, u128, [Result<u32, AppError>; 2], u32) {
    let store = Faulty::default();
    store.then("complete in", plan);
    let (memory, effects) = (store.memory.clone(), Arc::new(AtomicU32::new(0)));
    let counted = effects.clone();
    let handler = service_fn(move |WithClaim { claim, .. }: WithClaim<Ask, Faulty, u32>| {
        let (memory, effects) = (memory.clone(), counted.clone());
        async move {
            let mut tx = memory.begin();
            tx.on_commit(move || {
                effects.fetch_add(1, Ordering::SeqCst);
            });
            let done = claim.complete_in(&mut tx, &700).await;
            if commits {
                tx.commit().map_err(|_| AppError::Broken("not committed"))?;
            }
            match done {
                Err(_) if heeds => Err(AppError::Broken("no answer")),
                _ => Ok(700),
            }
        }
    });
    let layer = IdempotencyLayer::transactional(impatient(), store.clone(), by_ask as ByAsk);
    let mut service = layer.unwrap().layer(handler);
    let watch = Watch::start();
    let first = begin(&mut service, Ask(7)).await;
    let waited = u128::from(watch.ms());
    let second = begin(&mut service, Ask(7)).await;
    (store, waited, [first, second], effects.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_completion_in_a_transaction_that_hangs_is_in_doubt() {
    // Committed although its answer never arrived: the layer reads it back and does not run it
    // again.
    let (_, waited, answers, effects) = in_a_transaction(Plan::Hangs, true, true).await;
    assert_eq!((waited, answers.map(Result::unwrap), effects), (900, [700, 700], 1));
    // Rolled back: the next call runs.
    let (_, waited, [first, second], effects) =
        in_a_transaction(Plan::HangsUndone, false, true).await;
    assert_eq!((waited, first, effects), (900, Err(AppError::Broken("no answer")), 0));
    assert_eq!(second, Ok(700));
    // Committed without the answer in it, and the handler ignores that: the layer stores the
    // answer.
    let (store, _, answers, effects) = in_a_transaction(Plan::HangsUndone, true, false).await;
    assert_eq!((answers.map(Result::unwrap), effects), ([700, 700], 1));
    assert_eq!(store.count("complete"), 1);
}
