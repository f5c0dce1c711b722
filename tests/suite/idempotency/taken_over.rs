//! Transactional handlers whose key another call has taken over, and renewals beside a transaction
//! that is open.

use buttress::idempotency::{Claim, IdempotencyLayer, KeyClaim};
use buttress::idempotency::{
    ClaimId, CompleteIn, Config, Immediate, InvalidKey, Key, LostClaim, MemoryStore,
    MemoryTransaction, Stats, Store, WithClaim,
};
use buttress::{Clock, ErrorKind, Event, StoreErrorKind};
use tower::util::BoxCloneService;
use tower::{Layer, service_fn};

use super::faulty::{Faulty, Plan};
use super::{Ask, begin, by_ask, config};
use crate::support::{AppError, Events, ms, soon};

/// Gives the key to another call, which answers 5.
fn take_over(memory: &MemoryStore<u32>, key: &Key, claim: ClaimId) {
    let other = ClaimId::new(77);
    memory.release_claim_now(KeyClaim::new(key, claim)).unwrap();
    memory.claim_now(KeyClaim::new(key, other), ms(30_000)).unwrap();
    memory.complete_now(KeyClaim::new(key, other), 5, ms(300_000)).unwrap();
}

/// The behaviour of a handler that has lost its key.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Does {
    /// Returns the error of `complete_in`.
    Fails,
    /// Returns an answer that is not kept, as a handler does whose errors are responses.
    AnswersUnkept,
    /// Returns an answer that would be kept.
    Answers,
    /// Rolls a first transaction back before it loses the key.
    FailsTheSecondTime,
    /// Panics. The call then counts like any call that panicked.
    Panics,
}

/// The answer that is not kept.
const UNKEPT: u32 = 500;

async fn handle<St>(
    claim: Claim<St, u32>,
    memory: MemoryStore<u32>,
    does: Does,
) -> Result<u32, AppError>
where
    St: CompleteIn<MemoryTransaction<u32>, u32>,
{
    if does == Does::FailsTheSecondTime {
        claim.complete_in(&mut memory.begin(), &1).await.unwrap();
    }
    take_over(&memory, claim.key().unwrap(), claim.id().unwrap());
    let mut tx = memory.begin();
    tx.on_commit(|| panic!("an effect after the key was lost"));
    let fenced = claim.complete_in(&mut tx, &1).await.unwrap_err();
    assert_eq!(fenced.kind(), StoreErrorKind::Fenced);
    match does {
        Does::Answers => Ok(1),
        Does::AnswersUnkept => Ok(UNKEPT),
        Does::Panics => panic!("the handler gave up"),
        Does::Fails | Does::FailsTheSecondTime => Err(AppError::Broken("fenced")),
    }
}

/// Calls a handler once that loses its key. Returns its answer, the answer to the next call, and
/// the numbers of the layer.
async fn call<St>(
    store: St,
    memory: MemoryStore<u32>,
    config: Config,
    detached: bool,
    does: Does,
) -> (Result<u32, AppError>, Result<u32, AppError>, Stats)
where
    St: Store<u32> + CompleteIn<MemoryTransaction<u32>, u32>,
{
    let key = by_ask as fn(&Ask) -> Result<Key, InvalidKey>;
    let layer = IdempotencyLayer::transactional(config, store, key).unwrap();
    let layer = layer.keep_if(|answer: &u32| *answer != UNKEPT);
    let handle = layer.handle();
    let inner = service_fn(move |r: WithClaim<Ask, St, u32>| handle_(r, memory.clone(), does));
    let mut service = match detached {
        true => BoxCloneService::new(layer.detached().layer(inner)),
        false => BoxCloneService::new(layer.layer(inner)),
    };
    let first = soon(begin(&mut service, Ask(7))).await;
    let second = soon(begin(&mut service, Ask(7))).await;
    (first, second, handle.stats())
}

fn handle_<St>(
    request: WithClaim<Ask, St, u32>,
    memory: MemoryStore<u32>,
    does: Does,
) -> impl Future<Output = Result<u32, AppError>> + Send
where
    St: Store<u32> + CompleteIn<MemoryTransaction<u32>, u32>,
{
    handle(request.claim, memory, does)
}

/// Runs [`call`] over a store that answers without waiting, and over one that may wait.
async fn call_each(
    config: Config,
    detached: bool,
    does: Does,
) -> [(Result<u32, AppError>, Result<u32, AppError>, Stats); 2] {
    let (memory, store) = (MemoryStore::<u32>::default(), Faulty::default());
    let slow = store.memory.clone();
    [
        call(memory.clone(), memory, config.clone(), detached, does).await,
        call(store, slow, config, detached, does).await,
    ]
}

/// Regression: the caller got the handler's own error, and the call counted as failed.
#[tokio::test(start_paused = true)]
async fn a_handler_whose_completion_was_fenced_has_lost_its_claim() {
    for does in [Does::Fails, Does::AnswersUnkept, Does::Answers, Does::FailsTheSecondTime] {
        for detached in [false, true] {
            for (first, second, stats) in call_each(config(), detached, does).await {
                let error = first.unwrap_err();
                assert_eq!(error.kind(), Some(ErrorKind::ClaimLost), "{does:?} {detached}");
                assert_eq!(second, Ok(5), "the one answer");
                assert_eq!((stats.fenced, stats.failed), (1, 0), "{does:?} {detached}");
                assert_eq!((stats.in_flight, stats.store_failed), (0, 0));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_lost_claim_answer_the_caller_gets_the_end_of_its_own_handler() {
    let own = |does| match does {
        Does::Answers => Ok(1),
        Does::AnswersUnkept => Ok(UNKEPT),
        _ => Err(AppError::Broken("fenced")),
    };
    for does in [Does::Fails, Does::AnswersUnkept, Does::Answers, Does::FailsTheSecondTime] {
        for detached in [false, true] {
            let config = config().lost_claim(LostClaim::Answer);
            for (first, second, stats) in call_each(config, detached, does).await {
                assert_eq!((first, second), (own(does), Ok(5)), "{does:?} {detached}");
                assert_eq!((stats.fenced, stats.failed), (1, 0), "{does:?} {detached}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_after_a_fenced_completion_stays_a_panic() {
    let store = MemoryStore::<u32>::default();
    let running = tokio::spawn(call(store.clone(), store, config(), false, Does::Panics));
    assert!(soon(running).await.unwrap_err().is_panic());
}

/// A handler that completes its claim, keeps its transaction open for 15 seconds, and commits or
/// fails. The lease is renewed every 10 seconds.
async fn beside_an_open_transaction(store: &Faulty, commits: bool) -> (Stats, Vec<Event>) {
    let events = Events::default();
    let config = config().observer(events.clone());
    let key = by_ask as fn(&Ask) -> Result<Key, InvalidKey>;
    let layer = IdempotencyLayer::transactional(config, store.clone(), key).unwrap();
    let memory = store.memory.clone();
    let mut service = layer.layer(service_fn(move |r: WithClaim<Ask, Faulty, u32>| {
        let mut tx = memory.begin();
        async move {
            r.claim.complete_in(&mut tx, &1).await.unwrap();
            Clock::default().sleep(ms(15_000)).await;
            match commits {
                true => tx.commit().map(|()| 1).map_err(|_| AppError::Broken("not committed")),
                false => Err(AppError::Broken("rolled back")),
            }
        }
    }));
    let answer = soon(begin(&mut service, Ask(7))).await;
    assert_eq!(answer, if commits { Ok(1) } else { Err(AppError::Broken("rolled back")) });
    (layer.handle().stats(), events.all())
}

/// Regression: the renewal met the row that the claim's own transaction had locked, and reported
/// a failure of a healthy store.
#[tokio::test(start_paused = true)]
async fn a_renewal_beside_the_transaction_of_its_claim_is_no_failure_of_the_store() {
    for plan in [Plan::Fails(StoreErrorKind::Transient), Plan::HangsUndone] {
        for commits in [true, false] {
            let store = Faulty::default();
            store.always("renew", plan);
            let (stats, events) = beside_an_open_transaction(&store, commits).await;
            assert!(store.count("renew") >= 1, "{plan:?}");
            assert_eq!((stats.store_failed, stats.fenced), (0, 0), "{plan:?} {commits}");
            assert_eq!(stats.failed, u64::from(!commits));
            let failures = events.iter().filter(|e| matches!(e, Event::StoreFailed { .. }));
            assert_eq!(failures.count(), 0, "{plan:?} {commits}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_a_person_must_mend_is_reported_beside_a_transaction_too() {
    let store = Faulty::default();
    store.always("renew", Plan::Fails(StoreErrorKind::Misconfigured));
    let (stats, _) = beside_an_open_transaction(&store, true).await;
    assert_eq!(stats.store_failed, 1);
}
