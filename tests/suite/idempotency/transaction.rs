//! Answers stored in the handler's own transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use buttress::idempotency::{
    CompleteIn, Completion, IdempotencyLayer, InvalidKey, Key, KeyClaim, MemoryStore,
    MemoryTransaction, Store, WithClaim,
};
use buttress::{Clock, ErrorKind, StoreErrorKind};
use tower::{Layer, Service, service_fn};

use super::faulty::{Faulty, Plan};
use super::{Ask, begin, by_ask, config};
use crate::support::{AppError, Watch, ms, now, soon};

type Request<St> = WithClaim<Ask, St, u32>;

/// The behaviour of a handler.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Does {
    /// Commits and answers.
    Commits,
    /// Commits, and gets an error because the reply was lost.
    CommitsAndFails,
    /// Rolls back and fails.
    RollsBack,
    /// Answers without a transaction.
    Nothing,
}

/// A handler with one effect, counted at its commit.
fn handler(
    memory: &MemoryStore<u32>,
    does: &[Does],
) -> (
    impl Service<Request<Faulty>, Response = u32, Error = AppError, Future: Send> + Clone + Send + use<>,
    Arc<AtomicU32>,
) {
    let effects = Arc::new(AtomicU32::new(0));
    let does = Arc::new(std::sync::Mutex::new(does.to_vec()));
    let (memory, counted) = (memory.clone(), effects.clone());
    let service = service_fn(move |WithClaim { request, claim, .. }: Request<Faulty>| {
        let does = does.lock().unwrap().remove(0);
        let (memory, counted) = (memory.clone(), counted.clone());
        async move {
            let answer = request.0 * 100;
            if does == Does::Nothing {
                return Ok(answer);
            }
            let mut tx = memory.begin();
            tx.on_commit(move || {
                counted.fetch_add(1, Ordering::SeqCst);
            });
            claim.complete_in(&mut tx, &answer).await.map_err(|_| AppError::Broken("fenced"))?;
            match does {
                Does::RollsBack => return Err(AppError::Broken("rolled back")),
                _ => tx.commit().map_err(|_| AppError::Broken("not committed"))?,
            }
            match does {
                Does::CommitsAndFails => Err(AppError::Broken("connection lost")),
                _ => Ok(answer),
            }
        }
    });
    (service, effects)
}

fn layer(store: &Faulty) -> TransactionalLayer {
    let key = by_ask as fn(&Ask) -> Result<Key, InvalidKey>;
    IdempotencyLayer::transactional(config(), store.clone(), key).unwrap()
}

type TransactionalLayer = IdempotencyLayer<
    fn(&Ask) -> Result<Key, InvalidKey>,
    u32,
    buttress::idempotency::Answers,
    buttress::AsError,
    buttress::idempotency::Transactional<Faulty>,
>;

#[tokio::test(start_paused = true)]
async fn effect_and_answer_become_visible_together_and_the_layer_stores_nothing_itself() {
    let store = Faulty::default();
    let (handler, effects) = handler(&store.memory, &[Does::Commits]);
    let mut service = layer(&store).layer(handler);
    for _ in 0..3 {
        assert_eq!(soon(begin(&mut service, Ask(7))).await.unwrap(), 700);
    }
    assert_eq!(effects.load(Ordering::SeqCst), 1);
    assert_eq!((store.count("complete"), store.count("outcome")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_frees_the_key_and_nothing_is_visible() {
    let store = Faulty::default();
    let (handler, effects) = handler(&store.memory, &[Does::RollsBack, Does::Commits]);
    let mut service = layer(&store).layer(handler);
    let error = soon(begin(&mut service, Ask(7))).await.unwrap_err();
    assert_eq!(error, AppError::Broken("rolled back"));
    assert_eq!(effects.load(Ordering::SeqCst), 0);
    assert_eq!(store.asked(), ["claim", "release", "outcome"], "read back before the answer");
    assert_eq!(soon(begin(&mut service, Ask(7))).await.unwrap(), 700);
    assert_eq!(effects.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_reply_was_lost_is_read_back_and_answered() {
    let store = Faulty::default();
    let (handler, effects) = handler(&store.memory, &[Does::CommitsAndFails]);
    let layer = layer(&store);
    let mut service = layer.layer(handler);
    let (first, second) = tokio::join!(begin(&mut service, Ask(7)), begin(&mut service, Ask(7)));
    assert_eq!((first.unwrap(), second.unwrap()), (700, 700));
    assert_eq!(effects.load(Ordering::SeqCst), 1);
    assert_eq!(layer.handle().stats().failed, 0);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_read_back_leaves_the_failure_and_the_truth_to_the_next_call() {
    let store = Faulty::default();
    for _ in 0..3 {
        store.then("outcome", Plan::Fails(StoreErrorKind::Transient));
    }
    let (handler, effects) = handler(&store.memory, &[Does::CommitsAndFails]);
    let layer = layer(&store);
    let mut service = layer.layer(handler);
    let error = soon(begin(&mut service, Ask(7))).await.unwrap_err();
    assert_eq!(error, AppError::Broken("connection lost"));
    assert_eq!(soon(begin(&mut service, Ask(7))).await.unwrap(), 700);
    assert_eq!((effects.load(Ordering::SeqCst), layer.handle().stats().store_failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_use_its_claim_is_completed_by_the_layer() {
    let store = Faulty::default();
    let (handler, _) = handler(&store.memory, &[Does::Nothing]);
    let mut service = layer(&store).layer(handler);
    assert_eq!(soon(begin(&mut service, Ask(7))).await.unwrap(), 700);
    assert_eq!(soon(begin(&mut service, Ask(7))).await.unwrap(), 700);
    assert_eq!(store.asked(), ["claim", "complete", "claim"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_completes_nothing() {
    let store = MemoryStore::<u32>::default();
    let layer =
        IdempotencyLayer::transactional(config(), store.clone(), |_: &Ask| None::<Key>).unwrap();
    let memory = store.clone();
    let mut service =
        layer.layer(service_fn(move |request: WithClaim<Ask, MemoryStore<u32>, u32>| {
            let mut tx = memory.begin();
            async move {
                assert_eq!((request.claim.key(), request.claim.id()), (None, None));
                request.claim.complete_in(&mut tx, &1).await.unwrap();
                tx.commit().unwrap();
                Ok::<u32, AppError>(request.request.0)
            }
        }));
    assert_eq!(now(begin(&mut service, Ask(7))).unwrap(), 7);
    assert_eq!(layer.handle().stats().store.unwrap().stored, 0);
}

/// The paused owner has done its work in a transaction, and another worker owns the key. The store
/// refuses the commit, so the effect happens once.
#[tokio::test(start_paused = true)]
async fn a_commit_after_a_take_over_is_fenced_with_its_effect() {
    let store = MemoryStore::<u32>::default();
    let key = |ask: &Ask| by_ask(ask);
    let here = IdempotencyLayer::transactional(config().lease(ms(900)), store.clone(), key);
    let elsewhere = IdempotencyLayer::new(config(), store.clone(), key).unwrap();
    let effects = Arc::new(AtomicU32::new(0));
    let (memory, counted) = (store.clone(), effects.clone());
    let mut service =
        here.unwrap().layer(service_fn(move |r: WithClaim<Ask, MemoryStore<u32>, u32>| {
            let (mut tx, counted) = (memory.begin(), counted.clone());
            let elsewhere = elsewhere.layer(service_fn(async |_: Ask| Ok::<u32, AppError>(5)));
            async move {
                assert_eq!(r.claim.key().unwrap().key(), "7");
                tx.on_commit(move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                });
                r.claim.complete_in(&mut tx, &1).await.unwrap();
                // The process freezes until its lease has expired, and another worker does the
                // work.
                tokio::task::yield_now().await;
                tokio::time::advance(ms(900)).await;
                let mut elsewhere = elsewhere;
                assert_eq!(now(begin(&mut elsewhere, Ask(7))).unwrap(), 5);
                let error = tx.commit().unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::Fenced);
                Err::<u32, _>(AppError::Broken("fenced"))
            }
        }));
    let error = soon(begin(&mut service, Ask(7))).await.unwrap_err();
    assert!(
        error == AppError::Broken("fenced") || error.kind() == Some(ErrorKind::ClaimLost),
        "{error}"
    );
    assert_eq!(effects.load(Ordering::SeqCst), 0);
    assert_eq!(soon(begin(&mut service, Ask(7))).await.unwrap(), 5, "the one answer");
}

/// A handler that commits, and then has 15 seconds of work left. The lease is renewed every 10
/// seconds.
async fn works_on_after_its_commit<St>(store: St, memory: MemoryStore<u32>)
where
    St: Store<u32> + CompleteIn<MemoryTransaction<u32>, u32> + Clone,
{
    let key = |ask: &Ask| by_ask(ask);
    let layer = IdempotencyLayer::transactional(config(), store, key).unwrap();
    let mut service = layer.layer(service_fn(move |r: WithClaim<Ask, St, u32>| {
        let mut tx = memory.begin();
        async move {
            r.claim.complete_in(&mut tx, &1).await.unwrap();
            tx.commit().unwrap();
            Clock::default().sleep(ms(15_000)).await;
            Ok::<u32, AppError>(1)
        }
    }));
    let watch = Watch::start();
    let first = tokio::spawn(begin(&mut service, Ask(7)));
    tokio::task::yield_now().await;
    let second = tokio::spawn(begin(&mut service, Ask(7)));
    assert_eq!(soon(second).await.unwrap().unwrap(), 1);
    assert!(watch.ms() <= 10_000, "the answer is available to other callers");
    assert_eq!(soon(first).await.unwrap().unwrap(), 1);
    assert_eq!(watch.ms(), 15_000);
    let stats = layer.handle().stats();
    assert_eq!((stats.fenced, stats.failed, stats.in_flight, stats.waiting), (0, 0, 0, 0));
}

/// Regression: the next renewal was refused, because the claim was no longer in flight, and the
/// layer took that for a loss. It dropped the handler at an await, and its caller got the error
/// that another worker owns the key.
#[tokio::test(start_paused = true)]
async fn a_handler_may_work_on_after_its_commit() {
    let memory = MemoryStore::default();
    works_on_after_its_commit(memory.clone(), memory).await;
    let store = Faulty::default();
    works_on_after_its_commit(store.clone(), store.memory.clone()).await;
    assert_eq!((store.count("renew"), store.count("outcome")), (1, 1), "then it needs no renewal");
    // It does not renew while the outcome is unknown either.
    let store = Faulty::default();
    store.then("outcome", Plan::Fails(StoreErrorKind::Transient));
    works_on_after_its_commit(store.clone(), store.memory.clone()).await;
    assert_eq!((store.count("renew"), store.count("outcome")), (2, 2));
}

/// Regression: the second try was refused because the first was committed. The refusal erased the
/// record of the first try, and the caller got an error for a committed effect.
#[tokio::test(start_paused = true)]
async fn a_commit_whose_reply_was_lost_may_be_tried_again_in_the_handler() {
    let store = MemoryStore::<u32>::default();
    let key = |ask: &Ask| by_ask(ask);
    let layer = IdempotencyLayer::transactional(config(), store.clone(), key).unwrap();
    let mut service = layer.layer(service_fn(move |r: WithClaim<Ask, MemoryStore<u32>, u32>| {
        let (mut first, mut second) = (store.begin(), store.begin());
        async move {
            r.claim.complete_in(&mut first, &700).await.unwrap();
            // Its reply is lost: the handler reacts as to a deadlock.
            first.commit().unwrap();
            let fenced = r.claim.complete_in(&mut second, &700).await.unwrap_err();
            assert_eq!(fenced.kind(), StoreErrorKind::Fenced);
            Err::<u32, _>(AppError::Broken("fenced"))
        }
    }));
    assert_eq!(soon(begin(&mut service, Ask(7))).await.unwrap(), 700);
    assert_eq!(layer.handle().stats().failed, 0);
}

#[test]
fn a_transaction_in_memory_is_all_or_nothing() {
    use buttress::idempotency::{ClaimId, CompleteIn, Immediate};
    let (store, other) = (MemoryStore::<u32>::default(), MemoryStore::<u32>::default());
    let (a, b) = (Key::new("a").unwrap(), Key::new("b").unwrap());
    let id = ClaimId::new;
    let complete = |tx: &mut _, key: &Key, claim| {
        now(store.complete_in(tx, Completion::new(KeyClaim::new(key, id(claim)), &1, ms(1000))))
            .map_err(|error| error.kind())
    };
    store.claim_now(KeyClaim::new(&a, id(1)), ms(1000)).unwrap();
    store.claim_now(KeyClaim::new(&b, id(2)), ms(1000)).unwrap();
    let mut tx = store.begin();
    assert_eq!(complete(&mut tx, &a, 9), Err(StoreErrorKind::Fenced));
    assert_eq!(complete(&mut other.begin(), &a, 1), Err(StoreErrorKind::Invalid));
    assert_eq!(complete(&mut tx, &a, 1), Ok(()));
    assert_eq!(complete(&mut tx, &b, 2), Ok(()));
    assert_eq!(store.outcome_now(KeyClaim::new(&a, id(1))).unwrap(), None, "not before the commit");
    store.release_claim_now(KeyClaim::new(&b, id(2))).unwrap();
    tx.on_commit(|| panic!("an effect of a transaction that failed"));
    assert_eq!(tx.commit().unwrap_err().kind(), StoreErrorKind::Fenced);
    assert_eq!(store.outcome_now(KeyClaim::new(&a, id(1))).unwrap(), None);
    let mut tx = store.begin();
    assert_eq!(complete(&mut tx, &a, 1), Ok(()));
    assert_eq!(complete(&mut tx, &a, 1), Ok(()), "twice is once");
    tx.commit().unwrap();
    assert_eq!(store.outcome_now(KeyClaim::new(&a, id(1))).unwrap(), Some(1));
}
