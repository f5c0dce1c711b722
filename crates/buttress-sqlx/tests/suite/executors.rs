//! Whole sagas on each database.

use std::sync::Arc;
use std::time::Duration;

use buttress::{Codec, CodecError, Format, StoreErrorKind};
use buttress_durable::saga::{
    Beginning, Builder, Call, Config, Definition, Entry, Executor, NewSaga, SagaError, SagaId,
    Status, Store, WorkerId,
};
use tower::{BoxError, service_fn};

use crate::db::{Db, on_each_database, rng};

on_each_database! {
    long_error_texts_wedge_no_saga
    old_sagas_are_purged_in_the_background
    a_saga_that_was_started_before_is_known
    a_log_of_an_older_release_is_resumed
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
    assert_eq!(brief.list(None, None, 1000).await.unwrap().len(), 301);
    db.time().advance(kept_for);
    loop {
        let left = brief.list(None, None, 1000).await.unwrap();
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
