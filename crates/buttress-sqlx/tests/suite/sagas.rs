//! Logs of sagas.

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress_durable::saga::{
    Append, Beginning, Entry, NewSaga, Page, SagaId, Status, Store, TakeOver, TakenOver, WorkerId,
};

use crate::db::{Db, NANO, SECOND, on_each_database, rng};

/// Returns `value` after `change`.
pub(crate) fn changed<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

/// Lets `worker` take over up to `limit` sagas of the definition of [`new_saga`].
pub(crate) async fn take(
    store: &impl Store<Vec<u8>>,
    worker: WorkerId,
    limit: usize,
) -> TakenOver<Vec<u8>> {
    store.take_abandoned(TakeOver::new(worker, ("order", 3), limit)).await.unwrap()
}

pub(crate) fn new_saga(worker: WorkerId) -> NewSaga<Vec<u8>> {
    let beginning = Beginning::new(b"input".to_vec());
    let id = SagaId::random(&rng());
    let mut saga = NewSaga::new(id, ("order", 3), "json", worker, beginning);
    saga.entries.push(Entry::ActionStarted { step: 0 });
    saga
}

/// Creates a saga, and returns its id.
async fn created(store: &impl Store<Vec<u8>>, worker: WorkerId) -> SagaId {
    let saga = new_saga(worker);
    let id = saga.id;
    store.create(saga).await.unwrap();
    id
}

/// Returns an append of one more entry at `position`.
pub(crate) fn append(saga: SagaId, epoch: u64, position: u64) -> Append<Vec<u8>> {
    let entries = vec![Entry::ActionDone { step: 0, output: b"out".to_vec() }];
    Append::new(saga, epoch, position, entries, Status::Running)
}

on_each_database! {
    a_log_is_read_as_it_was_written
    repeating_a_write_changes_nothing
    what_no_store_can_hold_is_refused
    a_cancellation_reaches_the_owner
    lists_and_purges
    damaged_sagas_stop_only_themselves
    writes_to_one_saga_at_once_keep_their_order
}

async fn a_log_is_read_as_it_was_written<D: Db>(db: D) {
    let store = db.store();
    let worker = WorkerId::random(&rng());
    store.renew_worker(worker, 10 * SECOND).await.unwrap();
    let mut saga = new_saga(worker);
    saga.deadline = Some(Duration::new(1_800_000_000, 7));
    saga.beginning.input = Vec::new();
    saga.entries.clear();
    store.create(saga.clone()).await.unwrap();
    let entries = vec![
        Entry::ActionDone { step: u16::MAX, output: Vec::new() },
        Entry::ActionDone { step: 1, output: vec![0, 255, 10] },
        Entry::ActionInDoubt { step: 2, why: Some("warum? \"'ä\n".to_owned()) },
    ];
    let more = Append::new(saga.id, 1, 0, entries.clone(), Status::Unwinding);
    assert!(!store.append(more).await.unwrap().cancel_requested);
    let record = db.another().await.load(saga.id).await.unwrap().unwrap();
    assert_eq!(record.entries, entries);
    assert_eq!((record.version, record.epoch, record.status), (3, 1, Status::Unwinding));
    assert_eq!((record.definition.as_str(), record.codec.as_str()), ("order", "json"));
    assert_eq!((record.deadline, record.beginning.input), (saga.deadline, Vec::new()));
    assert!(!record.cancel_requested);
    assert_eq!(store.load(SagaId::new(1)).await.unwrap(), None);
}

async fn repeating_a_write_changes_nothing<D: Db>(db: D) {
    let store = db.store();
    let worker = WorkerId::random(&rng());
    let saga = new_saga(worker);
    let kind = |error: buttress::StoreError| error.kind();
    store.create(saga.clone()).await.unwrap();
    store.create(saga.clone()).await.unwrap();
    store.append(append(saga.id, 1, 1)).await.unwrap();
    store.append(append(saga.id, 1, 1)).await.unwrap();
    store.append(append(saga.id, 1, 2)).await.unwrap();
    // Also when the log has grown since. A repeated creation is then a conflict.
    store.append(append(saga.id, 1, 1)).await.unwrap();
    assert_eq!(store.create(saga.clone()).await.map_err(kind), Err(StoreErrorKind::Conflict));

    let mut other = append(saga.id, 1, 1);
    other.entries[0] = Entry::ActionDone { step: 0, output: b"other".to_vec() };
    let error = store.append(other).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Conflict);
    assert!(error.to_string().contains(&saga.id.to_string()), "{error}");
    let mut longer = append(saga.id, 1, 2);
    longer.entries.push(Entry::UndoStarted { step: 1 });
    assert_eq!(store.append(longer).await.map_err(kind), Err(StoreErrorKind::Conflict));
    let gap = store.append(append(saga.id, 1, 9)).await;
    assert_eq!(gap.map_err(kind), Err(StoreErrorKind::Conflict));
    let mut ended = append(saga.id, 1, 2);
    ended.status = Status::Completed;
    assert_eq!(store.append(ended).await.map_err(kind), Err(StoreErrorKind::Conflict));
    let saga = new_saga(worker);
    store.create(saga.clone()).await.unwrap();
    let changes: [fn(&mut NewSaga<Vec<u8>>); 9] = [
        |saga| saga.beginning.input = b"x".to_vec(),
        |saga| saga.beginning.shape = Some("x".to_owned()),
        |saga| saga.beginning.correlation = Some("x".to_owned()),
        |saga| saga.beginning.trace = Some("x".to_owned()),
        |saga| saga.version = 4,
        |saga| saga.definition = "x".to_owned(),
        |saga| saga.deadline = Some(SECOND),
        |saga| saga.entries.clear(),
        |saga| saga.worker = WorkerId::new(1),
    ];
    for change in changes {
        let change = changed(saga.clone(), change);
        let refused = store.create(change.clone()).await.map_err(kind);
        assert_eq!(refused, Err(StoreErrorKind::Conflict), "{change:?}");
    }
    for stranger in [append(SagaId::new(7), 1, 1), append(saga.id, 2, 1)] {
        assert_eq!(store.append(stranger).await.map_err(kind), Err(StoreErrorKind::Fenced));
    }
    assert_eq!(store.load(saga.id).await.unwrap().unwrap().entries.len(), 1);

    // The last append of the saga, whose answer is lost.
    let end = changed(append(saga.id, 1, 1), |more| more.status = Status::Completed);
    store.append(end.clone()).await.unwrap();
    store.append(end).await.unwrap();
    // The saga has no owner any more.
    let late = store.append(append(saga.id, 1, 2)).await;
    assert_eq!(late.map_err(kind), Err(StoreErrorKind::Fenced));
}

async fn what_no_store_can_hold_is_refused<D: Db>(db: D) {
    let store = db.store();
    let worker = WorkerId::random(&rng());
    let sized = |bytes| changed(new_saga(worker), |saga| saga.beginning.input = vec![7; bytes]);
    let large = sized(buttress_sqlx::LARGEST + 1);
    let error = store.create(large).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(error.to_string().contains("at most 16777216"), "{error}");
    for name in ["", "a\0b", &"x".repeat(513)] {
        let saga = changed(new_saga(worker), |saga| saga.definition = name.to_owned());
        assert_eq!(store.create(saga).await.unwrap_err().kind(), StoreErrorKind::Invalid);
    }
    let mut saga = new_saga(worker);
    saga.entries[0] = Entry::Unwinding { why: Some("a\0b".to_owned()) };
    store.create(saga.clone()).await.unwrap();
    store.create(saga.clone()).await.unwrap();
    let record = store.load(saga.id).await.unwrap().unwrap();
    assert_eq!(record.entries[0].note(), Some("a\u{fffd}b"));
    let nothing = changed(append(saga.id, 1, 1), |more| more.entries.clear());
    assert_eq!(store.append(nothing).await.unwrap_err().kind(), StoreErrorKind::Invalid);
    // As large as the bound.
    let large = changed(sized(buttress_sqlx::LARGEST), |saga| saga.entries.clear());
    store.create(large.clone()).await.unwrap();
    assert_eq!(
        store.load(large.id).await.unwrap().unwrap().beginning.input.len(),
        buttress_sqlx::LARGEST
    );
}

async fn a_cancellation_reaches_the_owner<D: Db>(db: D) {
    let store = db.store();
    let saga = new_saga(WorkerId::random(&rng()));
    assert!(!store.request_cancel(saga.id).await.unwrap(), "unknown");
    store.create(saga.clone()).await.unwrap();
    assert!(store.request_cancel(saga.id).await.unwrap());
    assert!(store.request_cancel(saga.id).await.unwrap());
    assert!(store.append(append(saga.id, 1, 1)).await.unwrap().cancel_requested);
    assert!(store.append(append(saga.id, 1, 1)).await.unwrap().cancel_requested, "repeated");
    assert!(store.load(saga.id).await.unwrap().unwrap().cancel_requested);
    let end = changed(append(saga.id, 1, 2), |more| more.status = Status::Compensated);
    store.append(end).await.unwrap();
    assert!(!store.request_cancel(saga.id).await.unwrap(), "ended");
}

async fn lists_and_purges<D: Db>(db: D) {
    let store = db.store();
    let worker = WorkerId::random(&rng());
    let mut ids = Vec::new();
    for n in 0..10 {
        let id = created(store, worker).await;
        let status = match n % 5 {
            0 => Status::Running,
            1 => Status::Unwinding,
            2 => Status::Stuck,
            3 => Status::Completed,
            _ => Status::Compensated,
        };
        store.append(changed(append(id, 1, 1), |more| more.status = status)).await.unwrap();
        ids.push((id, status));
        if n == 4 {
            db.time().advance(SECOND);
        }
    }
    ids.sort_by_key(|(id, _)| *id);
    let page = store.list(Page::first(4)).await.unwrap();
    assert_eq!(
        page.iter().map(|s| s.id).collect::<Vec<_>>(),
        ids[..4].iter().map(|i| i.0).collect::<Vec<_>>()
    );
    let rest = store.list(Page::first(100).after(page[3].id)).await.unwrap();
    assert_eq!(rest.len(), 6);
    for status in
        [Status::Running, Status::Unwinding, Status::Stuck, Status::Completed, Status::Compensated]
    {
        let listed = store.list(Page::first(100).status(status)).await.unwrap();
        let expected: Vec<_> = ids.iter().filter(|i| i.1 == status).map(|i| i.0).collect();
        assert_eq!(listed.iter().map(|s| s.id).collect::<Vec<_>>(), expected);
        assert_eq!((listed[0].epoch, listed[0].version), (1, 3));
        let after = store.list(Page::first(100).status(status).after(expected[0])).await.unwrap();
        assert_eq!(after.len(), 1);
    }
    // Two sagas ended at 0 s and two at 1 s. An age of 10 s has passed for the first two at 10 s
    // exactly.
    db.time().advance(9 * SECOND - NANO);
    assert_eq!(store.purge_sagas(None, 10 * SECOND, 100).await.unwrap(), 0);
    db.time().advance(NANO);
    assert_eq!(store.purge_sagas(None, 10 * SECOND, 1).await.unwrap(), 1);
    assert_eq!(store.purge_sagas(None, 10 * SECOND, 100).await.unwrap(), 1);
    db.time().advance(SECOND);
    assert_eq!(store.purge_sagas(None, 10 * SECOND, 100).await.unwrap(), 2);
    assert_eq!(store.list(Page::first(100)).await.unwrap().len(), 6);
    assert_eq!(db.execute("DELETE FROM {s}buttress_saga_entry").await, 18, "logs went, too");
}

async fn damaged_sagas_stop_only_themselves<D: Db>(db: D) {
    let store = db.store();
    let worker = WorkerId::random(&rng());
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(created(store, worker).await);
    }
    // The two oldest: an entry of an unknown kind, and a missing entry.
    db.execute("UPDATE {s}buttress_saga_entry SET kind = 200 WHERE position = 0 AND saga = (SELECT min(number) FROM {s}buttress_saga)").await;
    db.execute("DELETE FROM {s}buttress_saga_entry WHERE position = 0 AND saga = (SELECT min(number) + 1 FROM {s}buttress_saga)").await;
    let error = store.load(ids[0]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains(&ids[0].to_string()), "{error}");
    assert!(error.to_string().contains("unknown kind 200"), "{error}");

    let taker = WorkerId::random(&rng());
    let mut taken = Vec::new();
    let mut corrupt = Vec::new();
    for _ in 0..3 {
        let found = take(store, taker, 2).await;
        taken.extend(found.sagas.iter().map(|record| record.id));
        corrupt.extend(found.corrupt.iter().map(|(id, _)| *id));
        store.renew_worker(taker, SECOND).await.unwrap();
    }
    assert_eq!(taken, ids[2..], "the damaged sagas were skipped");
    assert_eq!(corrupt, ids[..2]);
    let end = take(store, taker, 2).await;
    assert!(end.sagas.is_empty());
    let again = take(store, taker, 2).await;
    assert_eq!(
        again.corrupt.len() + end.corrupt.len(),
        2,
        "still reported, once the others are done"
    );
    let error = store.take_saga(taker, ids[1]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    // The damaged sagas stay unchanged.
    assert_eq!(db.execute("UPDATE {s}buttress_saga SET epoch = epoch WHERE epoch = 1").await, 2);

    db.execute("UPDATE {s}buttress_saga SET status = 99 WHERE number = (SELECT max(number) FROM {s}buttress_saga)").await;
    let error = store.load(ids[5]).await.unwrap_err();
    assert!(error.to_string().contains("unknown status 99"), "{error}");
    assert_eq!(store.list(Page::first(100)).await.unwrap().len(), 5, "the others are listed");
}

async fn writes_to_one_saga_at_once_keep_their_order<D: Db>(db: D) {
    let store = db.store();
    let sagas: Vec<_> = (0..20).map(|_| new_saga(WorkerId::new(1))).collect();
    // Concurrently, so that they share batches: the creation, three appends, and each of them
    // twice.
    let mut tasks = tokio::task::JoinSet::new();
    for saga in sagas.clone() {
        let store = store.clone();
        tasks.spawn(async move {
            let id = saga.id;
            let (a, b, c, d, e) = tokio::join!(
                store.create(saga.clone()),
                store.create(saga),
                store.append(append(id, 1, 1)),
                store.append(append(id, 1, 2)),
                store.append(append(id, 1, 1)),
            );
            a.unwrap();
            b.unwrap();
            c.unwrap();
            d.unwrap();
            e.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for saga in sagas {
        assert_eq!(store.load(saga.id).await.unwrap().unwrap().entries.len(), 3);
    }
}
