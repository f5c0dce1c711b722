//! Whole sagas on each database.

use std::sync::Arc;
use std::time::Duration;

use buttress::{Clock, Codec, CodecError, Format, StoreErrorKind};
use buttress_durable::outbox::{Inbox, MessageId, Receipt};
use buttress_durable::saga::{
    Beginning, Builder, Call, Config, Definition, Entry, Executor, NewSaga, Page, SagaError,
    SagaId, Status, Store, Tree, WorkerId,
};
use tower::{BoxError, service_fn};

use crate::db::{Db, SECOND, on_each_database, rng};

on_each_database! {
    long_error_texts_wedge_no_saga
    old_sagas_are_purged_in_the_background
    a_saga_that_was_started_before_is_known
    a_log_of_an_older_release_is_resumed
    a_log_without_times_is_read_and_run_on
    a_saga_that_starts_in_a_transaction_runs_once
    sagas_of_a_process_that_crashed_after_the_commit_run_elsewhere
}

/// An executor on the store of a database.
pub(crate) type Sagas<D> = Executor<u32, Bytes, <D as Db>::Store>;

/// Starts a saga, and returns its id once the saga waits.
pub(crate) async fn start_waiting<D: Db>(sagas: &Sagas<D>) -> SagaId {
    let id = sagas.start(7).await.unwrap().id();
    until::<D>(sagas, id, Status::Waiting).await;
    id
}

/// Waits until the saga has this status. Executors run on real time.
pub(crate) async fn until<D: Db>(sagas: &Sagas<D>, id: SagaId, status: Status) -> Tree {
    let (clock, began) = (Clock::default(), Clock::default().now());
    loop {
        match sagas.state(id).await.unwrap() {
            Some(tree) if tree.status == status => return tree,
            tree => {
                let waited = clock.now() - began;
                assert!(waited < Duration::from_secs(60), "not {status:?}: {tree:?}");
            }
        }
        clock.sleep(Duration::from_millis(5)).await;
    }
}

/// Numbers as bytes.
#[derive(Clone)]
pub(crate) struct Bytes;

impl Format for Bytes {
    type Encoded = Vec<u8>;
    const NAME: &'static str = "bytes";
}

impl Codec<u32> for Bytes {
    fn encode(&self, value: &Arc<u32>) -> Result<Vec<u8>, CodecError> {
        Ok(value.to_be_bytes().to_vec())
    }

    fn decode(&self, value: &Vec<u8>) -> Result<Arc<u32>, CodecError> {
        let bytes = value.as_slice().try_into();
        bytes
            .map(|bytes| Arc::new(u32::from_be_bytes(bytes)))
            .map_err(|error| CodecError::new(Self::NAME, error))
    }
}

fn refusing(steps: usize, characters: usize) -> Builder<u32, Bytes> {
    let mut saga = Definition::<u32>::builder("order", 3).codec(Bytes);
    saga.parallel(|saga| {
        for step in 0..steps {
            let refuse = service_fn(move |_: Call<u32>| async move {
                Err::<u32, BoxError>("x".repeat(characters).into())
            });
            saga.step(format!("s{step}"))
                .action((), refuse, |input: &u32, ()| *input)
                .definite(|_| true)
                .add();
        }
    });
    saga
}

fn done(name: &'static str) -> Builder<u32, Bytes> {
    let mut saga = Definition::<u32>::builder(name, 3).codec(Bytes);
    let done = service_fn(async |call: Call<u32>| Ok::<u32, BoxError>(call.into_request()));
    saga.step("step").action((), done, |input: &u32, ()| *input).add();
    saga
}

async fn long_error_texts_wedge_no_saga<D: Db>(db: D) {
    for (steps, characters) in [(1, 17 << 20), (16, 2 << 20)] {
        let saga = refusing(steps, characters).build().unwrap();
        let sagas = Executor::new(saga, db.store().clone(), Config::new()).unwrap();
        let report = sagas.run_to_end(7).await.unwrap();
        assert_eq!(report.status(), Status::Compensated);
        assert_eq!(report.reason().unwrap().chars().count(), 2000);
        let tree = sagas.state(report.id()).await.unwrap().unwrap();
        assert_eq!(tree.reason.as_deref(), report.reason());
        assert!(tree.steps.iter().all(|step| step.note.as_ref().unwrap().len() == 2000));
        sagas.shut_down().await.unwrap();
    }
}

async fn old_sagas_are_purged_in_the_background<D: Db>(db: D) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    // The test moves the clock while the database works. Sagas are kept longer than that.
    let (patience, kept_for) = (300 * DAY, 330 * DAY);
    let config = || Config::new().clock(db.time().clock()).patience(patience);
    let sagas = |name: &'static str, config: Config| {
        let saga = done(name).build().unwrap();
        Executor::new(saga, db.store().clone(), config).unwrap()
    };
    let brief = sagas("brief", config().retention(kept_for));
    let endless = sagas("endless", config().keep_forever());
    for _ in 0..300 {
        drop(brief.run_to_end(7).await.unwrap());
    }
    let kept = endless.run_to_end(7).await.unwrap().id();
    assert_eq!(brief.list(Page::first(1000)).await.unwrap().len(), 301);
    db.time().advance(kept_for);
    loop {
        let left = brief.list(Page::first(1000)).await.unwrap();
        if left.len() == 1 {
            assert_eq!(left.first().map(|saga| saga.id), Some(kept));
            break;
        }
        db.time().advance(Duration::from_secs(60));
        tokio::task::yield_now().await;
    }
}

async fn a_saga_that_was_started_before_is_known<D: Db>(db: D) {
    let sagas = || {
        let saga = done("order").build().unwrap();
        Executor::new(saga, db.store().clone(), Config::new()).unwrap()
    };
    let (here, there) = (sagas(), sagas());
    let id = SagaId::random(&rng());
    let execution = here.start_as(id, 7).await.unwrap();
    let attached = there.start_or_attach(id, 7).await.unwrap();
    let known = there.start_as(id, 7).await.map(drop);
    assert!(matches!(known, Err(SagaError::AlreadyStarted { .. })), "{known:?}");
    let other = there.start_as(id, 8).await.map(drop);
    let conflict = |error: &SagaError| match error {
        SagaError::Store { error, .. } => error.kind() == StoreErrorKind::Conflict,
        _ => false,
    };
    assert!(other.as_ref().is_err_and(conflict), "{other:?}");
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
    assert_eq!(attached.await.unwrap().status(), Status::Completed);
}

/// An older release kept the shape of the definition in the note of the entry at position 0.
async fn a_log_of_an_older_release_is_resumed<D: Db>(db: D) {
    for (shape, same) in [("step:c[];", true), ("another:c[];", false)] {
        let (id, worker) = (SagaId::random(&rng()), WorkerId::random(&rng()));
        let beginning = Beginning::new(7_u32.to_be_bytes().to_vec());
        let mut saga = NewSaga::new(id, ("order", 3), Bytes::NAME, worker, beginning);
        saga.entries.push(Entry::ActionStarted { step: 0 });
        db.store().create(saga.clone()).await.unwrap();
        let old = format!(
            "UPDATE {{s}}buttress_saga_entry SET note = '{shape}' \
             WHERE position = 0 AND note IS NULL"
        );
        assert_eq!(db.execute(&old).await, 1);
        let record = db.store().load(id).await.unwrap().unwrap();
        assert_eq!(record.beginning.shape.as_deref(), Some(shape));
        assert_eq!(record.entries, saga.entries);
        let sagas = done("order").build().unwrap();
        let sagas = Executor::new(sagas, db.store().clone(), Config::new()).unwrap();
        let recovery = sagas.recover().await.unwrap();
        if same {
            assert_eq!(recovery.resumed, [id], "{recovery:?}");
            let report = sagas.start_or_attach(id, 7).await.unwrap().await.unwrap();
            assert_eq!(report.status(), Status::Completed);
        } else {
            let changed = |error: &SagaError| matches!(error, SagaError::DefinitionChanged { .. });
            assert!(matches!(&recovery.left[..], [error] if changed(error)), "{recovery:?}");
        }
        sagas.shut_down().await.unwrap();
    }
}

fn orders<D: Db>(store: &D::Store) -> Sagas<D> {
    Executor::new(done("order").build().unwrap(), store.clone(), Config::new()).unwrap()
}

async fn a_saga_that_starts_in_a_transaction_runs_once<D: Db>(db: D) {
    let (sagas, store) = (orders::<D>(db.store()), db.store());
    let (id, event) = (SagaId::random(&rng()), MessageId::new(7));
    for commits in [false, true] {
        let mut tx = db.begin().await;
        let receipt = store.receive(&mut tx, "orders", event).await.unwrap();
        assert_eq!(receipt, Receipt::First);
        let started = sagas.start_in(&mut tx, id, 7).await.unwrap();
        let again = sagas.start_in(&mut tx, id, 7).await.map(drop);
        assert!(matches!(again, Err(SagaError::AlreadyStarted { .. })), "{again:?}");
        let other = sagas.start_in(&mut tx, id, 8).await.map(drop);
        let Err(SagaError::Store { error, .. }) = other else { panic!("{other:?}") };
        assert_eq!(error.kind(), StoreErrorKind::Conflict);
        if commits {
            db.commit(tx).await;
            assert_eq!(started.committed().await.unwrap().status(), Status::Completed);
        } else {
            db.rollback(tx).await;
            assert_eq!(sagas.state(id).await.unwrap(), None);
        }
    }
    let record = store.load(id).await.unwrap().unwrap();
    assert_eq!((record.epoch, sagas.stats().started, sagas.stats().resumed), (2, 1, 0));
    let mut tx = db.begin().await;
    let again = sagas.start_in(&mut tx, id, 7).await.map(drop);
    assert!(matches!(again, Err(SagaError::AlreadyStarted { .. })), "{again:?}");
    assert_eq!(store.receive(&mut tx, "orders", event).await.unwrap(), Receipt::Repeated);
    db.commit(tx).await;
    sagas.shut_down().await.unwrap();
}

async fn sagas_of_a_process_that_crashed_after_the_commit_run_elsewhere<D: Db>(db: D) {
    let there = orders::<D>(&db.another().await);
    there.keep_recovering(Duration::from_secs(3600));
    let here = orders::<D>(db.store());
    let clock = Clock::default();
    for _ in 0..2 {
        let mut tx = db.begin().await;
        for _ in 0..3 {
            drop(here.start_in(&mut tx, SagaId::random(&rng()), 7).await.unwrap());
        }
        db.commit(tx).await;
        let (wanted, began) = (there.stats().completed + 3, clock.now());
        while there.stats().completed < wanted {
            assert!(clock.now() - began < Duration::from_secs(30), "they are not taken");
            clock.sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!((here.stats().started, there.stats().resumed), (0, 6));
    there.shut_down().await.unwrap();
}

/// Removes from the tables what version 8 added.
pub(crate) async fn without_signals<D: Db>(db: &D) {
    db.execute("DROP TABLE {s}buttress_saga_signal").await;
    db.execute("ALTER TABLE {s}buttress_saga DROP COLUMN signals").await;
}

/// Removes from the tables what version 7 and later ones added.
pub(crate) async fn without_waits<D: Db>(db: &D) {
    without_signals(db).await;
    for index in ["due", "due_since", "waiting"] {
        db.execute(&format!("DROP INDEX {{s}}buttress_saga_{index}")).await;
    }
    for column in ["due_at", "due_length"] {
        db.execute(&format!("ALTER TABLE {{s}}buttress_saga DROP COLUMN {column}")).await;
    }
}

/// The rows of a log have no times in a database of version 5.
async fn a_log_without_times_is_read_and_run_on<D: Db>(db: D) {
    let (id, worker) = (SagaId::random(&rng()), WorkerId::random(&rng()));
    let beginning = Beginning::new(7_u32.to_be_bytes().to_vec());
    let mut saga = NewSaga::new(id, ("order", 3), Bytes::NAME, worker, beginning);
    saga.entries.push(Entry::ActionStarted { step: 0 });
    db.store().create(saga).await.unwrap();
    without_waits(&db).await;
    db.execute("ALTER TABLE {s}buttress_saga_entry DROP COLUMN recorded_at").await;
    db.execute("UPDATE {s}buttress_schema SET value = 5 WHERE name = 'version'").await;

    let sagas = orders::<D>(&db.another().await);
    let before = sagas.state(id).await.unwrap().unwrap();
    let step = &before.steps.first().unwrap().history;
    assert_eq!((before.created_at, step.started, step.attempts), (None, None, 1));
    db.time().advance(10 * SECOND);
    let now = db.time().clock().unix();
    assert_eq!(sagas.recover().await.unwrap().resumed, [id]);
    let report = sagas.start_or_attach(id, 7).await.unwrap().await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    let after = sagas.state(id).await.unwrap().unwrap();
    let step = &after.steps.first().unwrap().history;
    assert_eq!((after.created_at, step.started, step.attempts), (None, None, 2));
    assert_eq!(step.ended, Some(now), "by the store's clock");
    sagas.shut_down().await.unwrap();
}
