//! Slow stores and stores that fail.

use buttress::idempotency::{Config, Encoded, IdempotencyLayer, InvalidKey, Key, MemoryStore};
use buttress::idempotency::{Leave, StoreFailure};
use buttress::{ErrorKind, Event, Json, StoreErrorKind};
use tower::{Layer, ServiceExt};

use super::faulty::{Faulty, Plan};
use super::{Ask, ByAsk, Layered, Scripted, Step, begin, by_ask, call, config};
use crate::support::{AppError, Events, Watch, behind, is_pending, ms, soon};

pub(super) fn over(config: Config, store: &Faulty) -> Layered {
    IdempotencyLayer::new(config, store.clone(), by_ask as ByAsk).unwrap()
}

pub(super) const TRANSIENT: Plan = Plan::Fails(StoreErrorKind::Transient);

#[tokio::test(start_paused = true)]
async fn the_same_happens_with_a_store_that_takes_its_time() {
    let store = Faulty::default();
    store.then("claim", Plan::Slow(20)).then("complete", Plan::Slow(30));
    let layer = over(config(), &store);
    let (mut service, log) = behind(&layer, [Step::AnswerAfter(100)]);
    let watch = Watch::start();
    let calls: Vec<_> = (0..5).map(|_| tokio::spawn(begin(&mut service, Ask(7)))).collect();
    let mut ends = Vec::new();
    for call in calls {
        assert_eq!(soon(call).await.unwrap().unwrap(), 1);
        ends.push(watch.ms());
    }
    // The other calls reach the store before the slow one. One of them runs, and the slow one waits
    // too.
    assert_eq!(log.calls(), 1);
    assert!(ends.iter().all(|end| *end == 130), "{ends:?}");
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    let stats = layer.handle().stats();
    assert_eq!((stats.started, stats.replayed, stats.waiting), (1, 5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_refuses_the_call_by_default() {
    let store = Faulty::default();
    store.then("claim", TRANSIENT).then("claim", TRANSIENT).then("claim", TRANSIENT);
    let layer = over(config().name("pay"), &store);
    let (mut service, log) = behind(&layer, []);
    let watch = Watch::start();
    let error = call(&mut service, Ask(7)).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::StoreUnavailable));
    assert_eq!(error.to_string(), "idempotency \"pay\": the store does not answer");
    assert!(error.refusal().never_reached_service());
    assert_eq!((watch.ms(), store.count("claim"), log.calls()), (200, 3, 0));
    // After the outage all calls work.
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!(layer.handle().stats().store_failed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_now_and_then_is_asked_again() {
    let store = Faulty::default();
    store.then("claim", TRANSIENT).then("complete", TRANSIENT);
    let mut service = over(config(), &store).layer(Scripted::new().0);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!(store.asked(), ["claim", "claim", "complete", "complete", "claim"]);
}

#[tokio::test(start_paused = true)]
async fn what_no_other_attempt_mends_is_not_attempted_again_and_stops_only_its_key() {
    for kind in [StoreErrorKind::Corrupt, StoreErrorKind::Invalid] {
        let store = Faulty::default();
        store.then("claim", Plan::Fails(kind));
        let (mut service, log) = behind(&over(config(), &store), []);
        let error = call(&mut service, Ask(7)).await.unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::StoreFailed));
        assert_eq!((store.count("claim"), log.calls()), (1, 0));
        assert_eq!(call(&mut service, Ask(8)).await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_fails_open_runs_the_call_unprotected() {
    let store = Faulty::default();
    let config = config().store_failure(StoreFailure::Open).store_attempts(1);
    let layer = over(config, &store);
    let (mut service, log) = behind(&layer, []);
    for answer in 1..3 {
        store.then("claim", TRANSIENT);
        assert_eq!(call(&mut service, Ask(7)).await.unwrap(), answer);
    }
    assert_eq!((log.calls(), store.count("complete")), (2, 0));
    let stats = layer.handle().stats();
    assert_eq!((stats.unprotected, stats.started, stats.refused), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn replies_that_are_lost_wedge_nothing() {
    let store = Faulty::default();
    store.then("claim", Plan::LosesReply).then("complete", Plan::LosesReply);
    let (mut service, log) = behind(&over(config(), &store), []);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!(log.calls(), 1);
}

/// Regression: a claim of an attempt whose reply was lost held the key for a whole lease.
#[tokio::test(start_paused = true)]
async fn a_claim_that_was_made_unheard_is_given_back() {
    let store = Faulty::default();
    store.then("claim", Plan::LosesReply);
    let (mut service, log) = behind(&over(config().store_attempts(1), &store), []);
    let error = call(&mut service, Ask(7)).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::StoreUnavailable));
    let watch = Watch::start();
    assert_eq!(soon(call(&mut service, Ask(7))).await.unwrap(), 1);
    assert!(watch.ms() <= 100, "not for a whole lease: {} ms", watch.ms());
    assert_eq!((store.count("release"), log.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_it_claims_gives_back_what_it_may_have_got() {
    for plan in [Plan::SlowReply(50), Plan::Hangs, Plan::Slow(50)] {
        let store = Faulty::default();
        store.then("claim", plan);
        let mut service = over(config(), &store).layer(Scripted::new().0);
        let mut first = begin(&mut service, Ask(7));
        assert!(is_pending(&mut first));
        drop(first);
        tokio::task::yield_now().await;
        assert_eq!(store.count("release"), 1, "{plan:?}");
        assert_eq!(soon(call(&mut service, Ask(7))).await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_it_runs_frees_its_key_from_a_task() {
    let store = Faulty::default();
    store.then("release", Plan::Slow(30));
    let layer = over(config(), &store);
    let (mut service, _) = behind(&layer, [Step::Held, Step::Answer]);
    let mut first = begin(&mut service, Ask(7));
    let mut second = begin(&mut service, Ask(7));
    assert!(is_pending(&mut first) && is_pending(&mut second));
    let watch = Watch::start();
    drop(first);
    assert_eq!(soon(second).await.unwrap(), 2);
    assert_eq!(watch.ms(), 30, "as soon as the key is free, and not at the next look");
    assert_eq!(layer.handle().stats().taken_over, 1);
}

/// Outside of a runtime nothing can be spawned, so the lease expires. Regression: with the default
/// spawner, passed explicitly, dropping the call panicked.
#[test]
fn a_call_dropped_outside_of_a_runtime_leaves_its_key_to_its_lease() {
    left_to_its_lease(config());
    left_to_its_lease(config().spawner(buttress::Spawner::default()));
}

fn left_to_its_lease(config: Config) {
    let clock = buttress::VirtualClock::new();
    let store = Faulty::over(MemoryStore::new(clock.clock()));
    let config = config.clock(clock.clock()).lease(ms(900)).refuse_in_flight(true);
    let layer = over(config, &store);
    let inner = tower::service_fn(|_: Ask| std::future::pending::<Result<u32, AppError>>());
    let mut service = layer.layer(inner);
    let mut first = begin(&mut service, Ask(7));
    assert!(is_pending(&mut first));
    drop(first);
    let error = crate::support::now(begin(&mut service, Ask(7))).unwrap_err();
    assert_eq!(error.refusal().retry_after(), Some(ms(900)));
    clock.advance(ms(900));
    assert!(is_pending(&mut begin(&mut service, Ask(7))), "it runs");
}

/// The handler has run: a client that disconnects now must not undo that.
#[tokio::test(start_paused = true)]
async fn an_answer_is_stored_though_its_caller_goes_away_meanwhile() {
    let store = Faulty::default();
    store.then("complete", Plan::Slow(50));
    let layer = over(config(), &store);
    let (mut service, log) = behind(&layer, []);
    let mut first = begin(&mut service, Ask(7));
    assert!(is_pending(&mut first));
    drop(first);
    let watch = Watch::start();
    assert_eq!(soon(call(&mut service, Ask(7))).await.unwrap(), 1);
    assert_eq!((watch.ms(), log.calls(), store.count("release")), (50, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_stored_is_given_and_its_key_stays_claimed_for_its_lease() {
    let store = Faulty::default();
    store.then("complete", TRANSIENT);
    let config = config().store_attempts(1).lease(ms(900)).refuse_in_flight(true);
    let layer = over(config, &store);
    let (mut service, log) = behind(&layer, []);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    let error = call(&mut service, Ask(7)).await.unwrap_err();
    assert_eq!(error.refusal().retry_after(), Some(ms(900)), "no second time so soon");
    assert_eq!((log.calls(), layer.handle().stats().store_failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_frees_its_key_before_its_caller_hears_of_it_and_one_takes_over() {
    let store = Faulty::default();
    store.then("release", Plan::Slow(40));
    let (mut service, log) = behind(&over(config(), &store), [Step::FailAfter(10), Step::Answer]);
    let watch = Watch::start();
    let first = tokio::spawn(begin(&mut service, Ask(7)));
    let second = tokio::spawn(begin(&mut service, Ask(7)));
    assert!(soon(first).await.unwrap().is_err());
    assert_eq!(watch.ms(), 50);
    assert_eq!(soon(second).await.unwrap().unwrap(), 2);
    assert_eq!(log.at(), [0, 50]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_that_keeps_its_key_releases_nothing() {
    let store = Faulty::default();
    let (mut service, _) =
        behind(&over(config().failed_calls(Leave::UntilLeaseEnds), &store), [Step::Fail]);
    assert!(call(&mut service, Ask(7)).await.is_err());
    assert_eq!(store.asked(), ["claim"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_gives_back_what_it_had_reserved_further_in() {
    let store = Faulty::default();
    let (inner, log) = Scripted::new();
    log.then([Step::AnswerAfter(100)]);
    let first = tokio::spawn(begin(&mut over(config(), &store).layer(inner.clone()), Ask(7)));
    tokio::task::yield_now().await;
    let limited = tower::limit::ConcurrencyLimitLayer::new(1).layer(inner);
    let service = over(config(), &store).layer(limited);
    let waiting = tokio::spawn(service.clone().oneshot(Ask(7)));
    tokio::task::yield_now().await;
    // The waiting call had the only permit when it was made.
    let watch = Watch::start();
    assert_eq!(soon(service.oneshot(Ask(8))).await.unwrap(), 2);
    assert_eq!(watch.ms(), 0);
    assert_eq!(soon(waiting).await.unwrap().unwrap(), 1);
    first.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_swept_in_batches_now_and_then() {
    let store = Faulty::default();
    let config = config().result_lifetime(ms(1000)).sweep(ms(5000), 3);
    let mut service = over(config, &store).layer(Scripted::new().0);
    for ask in 0..10 {
        call(&mut service, Ask(ask)).await.unwrap();
    }
    tokio::time::advance(ms(4999)).await;
    call(&mut service, Ask(100)).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(store.count("sweep"), 0);
    tokio::time::advance(ms(1)).await;
    call(&mut service, Ask(101)).await.unwrap();
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    // Ten expired, except those that claims of the store in memory remove themselves. Sweeps follow
    // until one finds less than a full batch.
    let swept = store.count("sweep");
    assert!((2..=4).contains(&swept), "{swept}");
    assert_eq!(store.memory.begin_size(), 2);
    // No sweep before the interval has passed.
    call(&mut service, Ask(102)).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(store.count("sweep"), swept);
}

/// The content of the store.
trait Held {
    fn begin_size(&self) -> usize;
}

impl Held for MemoryStore<u32> {
    fn begin_size(&self) -> usize {
        buttress::idempotency::Store::<u32>::size(self).unwrap().stored
    }
}

#[tokio::test(start_paused = true)]
async fn failures_of_the_store_are_told_with_their_kind() {
    let events = Events::default();
    let store = Faulty::default();
    store.then("claim", Plan::Fails(StoreErrorKind::Corrupt));
    let mut service = over(config().observer(events.clone()), &store).layer(Scripted::new().0);
    call(&mut service, Ask(7)).await.unwrap_err();
    let told = events.all();
    assert_eq!(told[0], Event::StoreFailed { kind: StoreErrorKind::Corrupt });
    assert!(matches!(&told[1], Event::Refused(error) if error.kind() == ErrorKind::StoreFailed));
}

#[tokio::test(start_paused = true)]
async fn typed_values_are_kept_in_a_store_of_bytes() {
    let bytes = MemoryStore::<Vec<u8>>::default();
    let key = by_ask as fn(&Ask) -> Result<Key, InvalidKey>;
    let layer: IdempotencyLayer<_, u32> =
        IdempotencyLayer::new(config(), Encoded::new(bytes.clone(), Json), key).unwrap();
    let (inner, log) = Scripted::new();
    let mut service = layer.layer(inner.clone());
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!(call(&mut service, Ask(7)).await.unwrap(), 1);
    assert_eq!(log.calls(), 1);
    // The store read with another codec is corrupt, and reports it.
    let store = Encoded::new(bytes, Json);
    let other: IdempotencyLayer<_, String> = IdempotencyLayer::new(config(), store, key).unwrap();
    let mut service = other
        .keep_as(
            |answer: &Result<u32, AppError>| answer.as_ref().ok().map(u32::to_string),
            |text: String| Ok(text.len() as u32),
        )
        .layer(inner);
    let error = call(&mut service, Ask(7)).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::StoreFailed));
}
