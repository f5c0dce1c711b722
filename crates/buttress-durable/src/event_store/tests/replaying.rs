//! Replays of parked events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress::{Clock, StoreErrorKind};
use tower::BoxError;

use super::super::*;
use super::faulty::{Fate, Faulty};
use super::projecting::{
    Judge, Shared, append, approve, config, fill, handler, memory, model, positions, until,
};
use crate::consume::{DeadLetters, LetterPage, MemoryDeadLetters, Select};

/// Fails at the event of one position, which tests change; 0 for none.
fn fails_at(position: &Arc<AtomicU64>) -> Judge {
    let position = position.clone();
    Arc::new(move |ordered: &Ordered| {
        let is_bad = ordered.position.get() == position.load(Ordering::Relaxed);
        if is_bad { Err("no".into()) } else { Ok(()) }
    })
}

struct Parked<St> {
    log: Log<St>,
    letters: MemoryDeadLetters,
    bad: Arc<AtomicU64>,
    model: Shared,
}

impl<St: Store + Begin<Tx = MemoryTransaction> + Checkpoint<MemoryTransaction>> Parked<St> {
    fn new(store: St) -> Self {
        let letters = MemoryDeadLetters::new(Clock::default());
        let bad = Arc::new(AtomicU64::new(2));
        Self { log: Log::new(store), letters, bad, model: model() }
    }

    /// Returns a projection that has come to the ninth event.
    async fn after_nine(store: St) -> (Self, ProjectionHandle) {
        let parked = Self::new(store);
        let handle = parked.projection();
        until(|| handle.stats().checkpoint == 9).await;
        (parked, handle)
    }

    fn projection(&self) -> ProjectionHandle {
        let config = config().on_failure(OnFailure::Park).dead_letters(self.letters.clone());
        let handler = handler(&self.model, fails_at(&self.bad));
        Projection::new("list", &self.log, handler, config).unwrap().in_transaction().spawn()
    }

    /// The positions of the parked events.
    async fn left(&self) -> Vec<u64> {
        let page = LetterPage::first("list", &Select::All, 100);
        let letters = self.letters.list_letters(page).await.unwrap();
        let positions = letters.iter().flat_map(|letter| &letter.headers);
        let positions = positions.filter(|(name, _)| name == "event-position");
        positions.map(|(_, position)| position.parse().unwrap()).collect()
    }
}

fn answer(replayed: Replayed) -> (u64, u64) {
    (replayed.events, replayed.left)
}

#[tokio::test(start_paused = true)]
async fn parked_events_are_replayed_in_the_order_of_their_stream() {
    let store = memory();
    fill(&store, 9).await;
    let (parked, handle) = Parked::after_nine(store.clone()).await;
    assert_eq!(parked.left().await, [2, 5, 8]);
    // The handler is not fixed: the later events stay behind the first one.
    assert_eq!(answer(handle.replay_parked().await.unwrap()), (0, 3));
    parked.bad.store(5, Ordering::Relaxed);
    assert_eq!(answer(handle.replay_parked().await.unwrap()), (1, 2));
    parked.bad.store(0, Ordering::Relaxed);
    assert_eq!(answer(handle.replay_parked().await.unwrap()), (2, 0));
    assert_eq!(answer(handle.replay_parked().await.unwrap()), (0, 0));
    append(&store, 10).await;
    until(|| handle.stats().checkpoint == 10).await;
    assert_eq!(positions(&parked.model), [1, 3, 4, 6, 7, 9, 2, 5, 8, 10]);
    assert_eq!(handle.stats().handled, 10);
}

#[tokio::test(start_paused = true)]
async fn events_6_7_a_replay_whose_answer_was_lost_takes_effect_once() {
    let store = memory();
    fill(&store, 9).await;
    let faulty = Faulty::new(store.clone(), []);
    let (parked, handle) = Parked::after_nine(faulty.clone()).await;
    parked.bad.store(0, Ordering::Relaxed);
    let _faults = faulty.commits([Fate::Works, Fate::AnswerLost]);
    // The commit of the second event works, and its letter is left.
    let error = handle.replay_parked().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Transient);
    assert_eq!(parked.left().await, [5, 8]);
    handle.shut_down().await;
    // A worker that takes over knows the event that was replayed last.
    let handle = parked.projection();
    assert_eq!(answer(handle.replay_parked().await.unwrap()), (2, 0));
    assert_eq!(positions(&parked.model), [1, 3, 4, 6, 7, 9, 2, 5, 8]);
    assert_eq!(parked.left().await, [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_rebuilt_model_gets_no_parked_event_again() {
    let store = memory();
    fill(&store, 9).await;
    let (parked, handle) = Parked::after_nine(store.clone()).await;
    let built = model();
    let beside = |handler| {
        let config = config().on_failure(OnFailure::Park).dead_letters(parked.letters.clone());
        Projection::new("list-2", &parked.log, handler, config).unwrap().in_transaction()
    };
    let swap = async |tx: MemoryTransaction| Ok::<_, BoxError>(tx);
    // A rebuild has no letters: it stops.
    let failed = beside(handler(&built, fails_at(&parked.bad))).rebuild("list", swap).await;
    assert!(matches!(failed, Err(RebuildError::Stopped(_))), "{failed:?}");
    parked.bad.store(0, Ordering::Relaxed);
    let at = beside(handler(&built, approve())).rebuild("list", swap).await.unwrap();
    assert_eq!((at.get(), positions(&built).len()), (9, 9));
    // The next event of the stream is behind the letters.
    append(&store, 10).await;
    until(|| handle.stats().checkpoint == 10).await;
    assert_eq!(parked.left().await, [2, 5, 8, 10]);
    assert_eq!(answer(handle.replay_parked().await.unwrap()), (4, 0));
    assert_eq!(
        positions(&parked.model),
        [1, 3, 4, 6, 7, 9, 10],
        "only the event after the rebuild"
    );
}

#[tokio::test(start_paused = true)]
async fn only_the_worker_with_the_lease_replays_and_a_pause_delays_it() {
    let store = memory();
    fill(&store, 9).await;
    let parked = Parked::new(store);
    let (one, two) = (parked.projection(), parked.projection());
    until(|| one.stats().checkpoint + two.stats().checkpoint == 9).await;
    let (owner, other) = if one.stats().is_leased { (one, two) } else { (two, one) };
    let error = other.replay_parked().await.unwrap_err();
    assert!(error.to_string().contains("does not have the lease"), "{error}");
    parked.bad.store(0, Ordering::Relaxed);
    owner.pause();
    let asked = owner.clone();
    let replaying = tokio::spawn(async move { asked.replay_parked().await });
    Clock::default().sleep(Duration::from_secs(60)).await;
    assert_eq!(parked.left().await, [2, 5, 8]);
    owner.resume();
    assert_eq!(answer(replaying.await.unwrap().unwrap()), (3, 0));
    owner.shut_down().await;
    let error = owner.replay_parked().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "store: transient: replaying parked events: the projection has ended"
    );
}
