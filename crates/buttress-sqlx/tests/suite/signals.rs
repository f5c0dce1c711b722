//! Whole sagas that wait for a signal, on each database. The test moves the clock of the store.

use std::sync::Arc;
use std::time::Duration;

use buttress::{Codec, CodecError, StoreErrorKind};
use buttress_durable::saga::{
    Call, Config, Definition, EntryKind, Executor, LARGEST_SIGNAL, SagaError, SagaId, SignalId,
    Signalled, Status, Store,
};
use tokio::sync::Semaphore;
use tower::{BoxError, service_fn};

use crate::db::{Db, on_each_database};
use crate::executors::{Bytes, Sagas, start_waiting, until, without_signals};

const DAY: Duration = Duration::from_secs(24 * 3600);
const APPROVED: &str = "approved";

on_each_database! {
    a_signal_from_another_process_continues_a_saga
    a_saga_without_its_signal_is_undone_at_the_limit
    a_signal_commits_with_the_row_of_the_user
    a_signal_of_an_open_transaction_is_not_lost
    each_signal_counts_once_with_two_processes
    signals_at_the_instant_of_the_limit
    tables_of_version_7_get_signals
    a_number_of_signals_that_cannot_be_is_reported
    a_payload_that_is_too_large_is_refused
}

impl Codec<Vec<u8>> for Bytes {
    fn encode(&self, value: &Arc<Vec<u8>>) -> Result<Vec<u8>, CodecError> {
        Ok(value.to_vec())
    }

    fn decode(&self, value: &Vec<u8>) -> Result<Arc<Vec<u8>>, CodecError> {
        Ok(Arc::new(value.clone()))
    }
}

/// A step that can be undone and needs a permit, the wait of three days for a signal, and a last step.
fn order_with<D: Db>(store: &D::Store, permits: Arc<Semaphore>) -> Sagas<D> {
    let mut saga = Definition::<u32>::builder("order", 3).codec(Bytes);
    let first = service_fn(move |call: Call<u32>| {
        let permits = permits.clone();
        async move {
            permits.acquire().await?.forget();
            Ok::<u32, BoxError>(call.into_request())
        }
    });
    let done = service_fn(async |call: Call<u32>| Ok::<u32, BoxError>(call.into_request()));
    saga.step("a")
        .action((), first, |input: &u32, ()| *input)
        .undo((), done, |input: &u32, (), _| *input)
        .add();
    let approved = saga.step(APPROVED).signal::<u32>(|_, ()| Some(3 * DAY));
    saga.step("b").needs(approved).action((), done, |_, approved| *approved).add();
    Executor::new(saga.build().unwrap(), store.clone(), Config::new()).unwrap()
}

fn order<D: Db>(store: &D::Store) -> Sagas<D> {
    order_with::<D>(store, Arc::new(Semaphore::new(1000)))
}

async fn send<D: Db>(sagas: &Sagas<D>, saga: SagaId) -> Signalled {
    sagas.signal(saga, APPROVED, 42_u32, SignalId::new(1)).await.unwrap()
}

/// Returns how many entries of this kind the log has.
async fn count<D: Db>(db: &D, saga: SagaId, kind: EntryKind) -> usize {
    let record = db.store().load(saga).await.unwrap().unwrap();
    record.entries.iter().filter(|entry| entry.kind() == kind).count()
}

async fn a_signal_from_another_process_continues_a_saga<D: Db>(db: D) {
    let (here, there) = (order::<D>(db.store()), order::<D>(&db.another().await));
    let start = db.time().clock().unix();
    let id = here.start(7).await.unwrap().id();
    let tree = until::<D>(&here, id, Status::Waiting).await;
    assert_eq!((tree.until, tree.signals.len()), (Some(start + 3 * DAY), 1));
    db.time().advance(2 * DAY);
    assert_eq!(send::<D>(&there, id).await, Signalled::Delivered);
    let tree = until::<D>(&here, id, Status::Completed).await;
    let wait = &tree.steps[1].history;
    assert_eq!((wait.started, wait.ended), (Some(start), Some(start + 2 * DAY)));
    assert_eq!((here.stats().signalled, there.stats().signalled), (1, 0));
    let record = db.store().load(id).await.unwrap().unwrap();
    assert_eq!(record.signals, 1);
    let taken = record.entries.iter().find(|entry| entry.kind() == EntryKind::Signalled).unwrap();
    assert_eq!((taken.step(), taken.payload()), (1, Some(&42_u32.to_be_bytes().to_vec())));
    assert_eq!(send::<D>(&there, id).await, Signalled::Duplicate);
    here.shut_down().await.unwrap();
}

async fn a_saga_without_its_signal_is_undone_at_the_limit<D: Db>(db: D) {
    let sagas = order::<D>(db.store());
    let execution = sagas.start(7).await.unwrap();
    let id = execution.id();
    until::<D>(&sagas, id, Status::Waiting).await;
    db.time().advance(3 * DAY);
    let report = execution.await.unwrap();
    assert_eq!(report.status(), Status::Compensated);
    assert_eq!(report.reason(), Some("approved: no signal within 259200s"));
    let late = sagas.signal(id, APPROVED, 42_u32, SignalId::new(1)).await;
    assert!(matches!(late, Err(SagaError::SignalTooLate { .. })), "{late:?}");
    sagas.shut_down().await.unwrap();
}

async fn a_signal_commits_with_the_row_of_the_user<D: Db>(db: D) {
    let sagas = order::<D>(db.store());
    let id = start_waiting::<D>(&sagas).await;
    let mut tx = db.begin().await;
    let sent = sagas.signal_in(&mut tx, id, APPROVED, 42_u32, SignalId::new(1)).await.unwrap();
    assert_eq!(sent.answer(), Signalled::Delivered);
    db.rollback(tx).await;
    assert_eq!(db.store().load(id).await.unwrap().unwrap().signals, 0);
    assert!(!db.store().has_due("order", 3).await.unwrap());

    let mut tx = db.begin().await;
    let sent = sagas.signal_in(&mut tx, id, APPROVED, 42_u32, SignalId::new(1)).await.unwrap();
    db.commit(tx).await;
    sent.committed();
    until::<D>(&sagas, id, Status::Completed).await;
    assert_eq!(count(&db, id, EntryKind::Signalled).await, 1);
    sagas.shut_down().await.unwrap();
}

/// The worker wants to write the wait while the transaction that signals the saga is open.
async fn a_signal_of_an_open_transaction_is_not_lost<D: Db>(db: D) {
    let permits = Arc::new(Semaphore::new(0));
    let sagas = order_with::<D>(db.store(), permits.clone());
    for round in 0..5 {
        let id = sagas.start(7).await.unwrap().id();
        let mut tx = db.begin().await;
        let sent = sagas.signal_in(&mut tx, id, APPROVED, 42_u32, SignalId::new(1)).await.unwrap();
        permits.add_permits(1);
        for _ in 0..20 * round {
            tokio::task::yield_now().await;
        }
        db.commit(tx).await;
        drop(sent);
        until::<D>(&sagas, id, Status::Completed).await;
        assert_eq!(count(&db, id, EntryKind::Signalled).await, 1);
    }
    sagas.shut_down().await.unwrap();
}

async fn each_signal_counts_once_with_two_processes<D: Db>(db: D) {
    let (here, there) = (order::<D>(db.store()), order::<D>(&db.another().await));
    there.recover().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(here.start(7).await.unwrap().id());
    }
    for id in &ids {
        let (one, two) = tokio::join!(send::<D>(&here, *id), send::<D>(&there, *id));
        let mut answers = [one, two];
        answers.sort_by_key(|answer| *answer != Signalled::Delivered);
        assert_eq!(answers, [Signalled::Delivered, Signalled::Duplicate]);
    }
    for id in &ids {
        until::<D>(&here, *id, Status::Completed).await;
        assert_eq!(count(&db, *id, EntryKind::Signalled).await, 1);
    }
    assert_eq!(here.stats().signalled + there.stats().signalled, 20);
    here.shut_down().await.unwrap();
    there.shut_down().await.unwrap();
}

async fn signals_at_the_instant_of_the_limit<D: Db>(db: D) {
    let (here, there) = (order::<D>(db.store()), order::<D>(&db.another().await));
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(here.start(7).await.unwrap().id());
    }
    for id in &ids {
        until::<D>(&here, *id, Status::Waiting).await;
    }
    db.time().advance(3 * DAY);
    let mut counted = 0;
    for id in &ids {
        let sent = there.signal(*id, APPROVED, 42_u32, SignalId::new(1)).await;
        let (status, ends) = match sent {
            Ok(answer) => {
                assert_eq!(answer, Signalled::Delivered);
                counted += 1;
                (Status::Completed, (1, 0))
            }
            Err(SagaError::SignalTooLate { .. }) => (Status::Compensated, (0, 1)),
            Err(error) => panic!("{error}"),
        };
        until::<D>(&here, *id, status).await;
        let signalled = count(&db, *id, EntryKind::Signalled).await;
        assert_eq!((signalled, count(&db, *id, EntryKind::ActionFailed).await), ends);
    }
    assert_eq!(here.stats().signalled, counted);
    here.shut_down().await.unwrap();
}

async fn tables_of_version_7_get_signals<D: Db>(db: D) {
    let sagas = order::<D>(db.store());
    let id = start_waiting::<D>(&sagas).await;
    sagas.shut_down().await.unwrap();
    without_signals(&db).await;
    db.execute("UPDATE {s}buttress_schema SET value = 7 WHERE name = 'version'").await;

    let sagas = order::<D>(&db.another().await);
    assert_eq!(until::<D>(&sagas, id, Status::Waiting).await.signals.len(), 1);
    assert_eq!(send::<D>(&sagas, id).await, Signalled::Delivered);
    assert_eq!(sagas.recover().await.unwrap().resumed, [id]);
    until::<D>(&sagas, id, Status::Completed).await;
    sagas.shut_down().await.unwrap();
}

async fn a_number_of_signals_that_cannot_be_is_reported<D: Db>(db: D) {
    let sagas = order::<D>(db.store());
    let id = start_waiting::<D>(&sagas).await;
    sagas.shut_down().await.unwrap();
    assert_eq!(db.execute("UPDATE {s}buttress_saga SET signals = -1").await, 1);
    let error = db.store().load(id).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("the count of signals -1 is negative"), "{error}");
}

async fn a_payload_that_is_too_large_is_refused<D: Db>(db: D) {
    let mut saga = Definition::<u32>::builder("order", 3).codec(Bytes);
    saga.step(APPROVED).signal::<Vec<u8>>(|_, ()| None);
    let sagas = Executor::new(saga.build().unwrap(), db.store().clone(), Config::new()).unwrap();
    let id = start_waiting::<D>(&sagas).await;
    let send = |bytes| sagas.signal(id, APPROVED, vec![7_u8; bytes], SignalId::new(1));
    let error = send(LARGEST_SIGNAL + 1).await.unwrap_err();
    assert!(matches!(error, SagaError::SignalTooLarge { bytes: 1_048_577, .. }), "{error:?}");
    assert!(
        error.to_string().contains("has 1048577 bytes, at most 1048576 are allowed"),
        "{error}"
    );
    let mut tx = db.begin().await;
    let in_tx = sagas.signal_in(&mut tx, id, APPROVED, vec![7_u8; 2 << 20], SignalId::new(1)).await;
    assert!(matches!(in_tx, Err(SagaError::SignalTooLarge { .. })));
    db.rollback(tx).await;
    assert_eq!(send(LARGEST_SIGNAL).await.unwrap(), Signalled::Delivered);
    until::<D>(&sagas, id, Status::Completed).await;
    sagas.shut_down().await.unwrap();
}
