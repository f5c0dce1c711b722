//! Owners of a saga.

use buttress_durable::saga::{SagaId, Status, Store, TakeOver, WorkerId};

use crate::db::{Db, NANO, SECOND, on_each_database, rng};
use crate::sagas::{append, changed, new_saga, take};

on_each_database! {
    a_lease_ends_at_the_instant_and_the_old_owner_is_fenced
    two_takers_share_what_is_free
    a_retired_worker_is_free_at_once
    one_saga_is_taken_only_if_nobody_runs_it
    appends_and_take_overs_race
}

async fn a_lease_ends_at_the_instant_and_the_old_owner_is_fenced<D: Db>(db: D) {
    let (store, other) = (db.store(), db.another().await);
    let (owner, taker) = (WorkerId::random(&rng()), WorkerId::random(&rng()));
    store.renew_worker(owner, 10 * SECOND).await.unwrap();
    other.renew_worker(taker, 60 * SECOND).await.unwrap();
    let first = new_saga(owner);
    let second = new_saga(owner);
    store.create(first.clone()).await.unwrap();
    store.create(second.clone()).await.unwrap();
    db.time().advance(10 * SECOND - NANO);
    assert!(take(&other, taker, 10).await.sagas.is_empty());
    let sagas = TakeOver::new(taker, ("order", 2), 10);
    assert!(other.take_abandoned(sagas).await.unwrap().sagas.is_empty());
    db.time().advance(NANO);
    // The lease ran out, and no worker took the saga: its owner continues.
    store.append(append(first.id, 1, 1)).await.unwrap();
    let sagas = TakeOver::new(taker, ("other", 3), 10);
    assert!(other.take_abandoned(sagas).await.unwrap().sagas.is_empty());
    let taken = take(&other, taker, 1).await.sagas;
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].id, taken[0].epoch), (first.id, 2), "the oldest");
    assert_eq!(taken[0].entries.len(), 2);
    let loaded = other.load(first.id).await.unwrap().unwrap();
    assert_eq!((taken[0].taken_at.is_some(), loaded.taken_at), (true, None));
    assert_eq!(taken[0], changed(loaded, |record| record.taken_at = taken[0].taken_at));

    // Even entries that are there already: the old owner would believe that it owns the saga.
    for late in [append(first.id, 1, 1), append(first.id, 1, 2)] {
        assert!(store.append(late).await.unwrap_err().is_fenced());
    }
    store.append(append(second.id, 1, 1)).await.unwrap();
    other.append(append(first.id, 2, 2)).await.unwrap();
    // A renewal does not return the saga.
    store.renew_worker(owner, 10 * SECOND).await.unwrap();
    assert!(store.append(append(first.id, 1, 2)).await.unwrap_err().is_fenced());
    assert!(take(&other, taker, 10).await.sagas.is_empty());
}

async fn two_takers_share_what_is_free<D: Db>(db: D) {
    let (store, other) = (db.store(), db.another().await);
    let gone = WorkerId::random(&rng());
    let mut ids = Vec::new();
    for _ in 0..40 {
        let saga = new_saga(gone);
        store.create(saga.clone()).await.unwrap();
        ids.push(saga.id);
    }
    let take = async |store: &D::Store| {
        let worker = WorkerId::random(&rng());
        store.renew_worker(worker, 10 * SECOND).await.unwrap();
        let mut taken = Vec::new();
        loop {
            let found = take(store, worker, 3).await.sagas;
            if found.is_empty() {
                return taken;
            }
            assert!(found.iter().all(|record| record.epoch == 2));
            taken.extend(found.into_iter().map(|record| record.id));
        }
    };
    let (mut one, two) = tokio::join!(take(store), take(&other));
    one.extend(two);
    one.sort();
    ids.sort();
    assert_eq!(one, ids, "each by one of them");
}

async fn a_retired_worker_is_free_at_once<D: Db>(db: D) {
    let store = db.store();
    let (owner, taker) = (WorkerId::random(&rng()), WorkerId::random(&rng()));
    store.renew_worker(owner, 10 * SECOND).await.unwrap();
    let saga = new_saga(owner);
    store.create(saga).await.unwrap();
    assert!(take(store, taker, 10).await.sagas.is_empty());
    store.release_worker(owner).await.unwrap();
    store.release_worker(owner).await.unwrap();
    assert_eq!(take(store, taker, 10).await.sagas.len(), 1);
}

async fn one_saga_is_taken_only_if_nobody_runs_it<D: Db>(db: D) {
    let store = db.store();
    let (owner, taker) = (WorkerId::random(&rng()), WorkerId::random(&rng()));
    store.renew_worker(owner, 10 * SECOND).await.unwrap();
    store.renew_worker(taker, 60 * SECOND).await.unwrap();
    let saga = new_saga(owner);
    store.create(saga.clone()).await.unwrap();
    assert_eq!(store.take_saga(taker, SagaId::new(1)).await.unwrap(), None);
    assert_eq!(store.take_saga(taker, saga.id).await.unwrap(), None);
    // Stuck: an operator takes it from any owner, repeatedly.
    store.append(changed(append(saga.id, 1, 1), |more| more.status = Status::Stuck)).await.unwrap();
    assert!(take(store, taker, 10).await.sagas.is_empty());
    assert_eq!(store.take_saga(taker, saga.id).await.unwrap().unwrap().epoch, 2);
    assert_eq!(store.take_saga(taker, saga.id).await.unwrap().unwrap().epoch, 3);
    assert!(store.append(append(saga.id, 1, 2)).await.unwrap_err().is_fenced());
    store.append(append(saga.id, 3, 2)).await.unwrap();
    assert_eq!(store.take_saga(owner, saga.id).await.unwrap(), None, "it runs again");
    db.time().advance(60 * SECOND);
    let record = store.take_saga(owner, saga.id).await.unwrap().unwrap();
    assert_eq!((record.epoch, record.status, record.entries.len()), (4, Status::Running, 3));
    store
        .append(changed(append(saga.id, 4, 3), |more| more.status = Status::Completed))
        .await
        .unwrap();
    assert_eq!(store.take_saga(taker, saga.id).await.unwrap(), None);
}

/// An owner without a lease writes repeatedly while another worker takes over. The log has no entry
/// under an epoch that had ended.
async fn appends_and_take_overs_race<D: Db>(db: D) {
    let (store, other) = (db.store(), db.another().await);
    let (a, b) = (WorkerId::random(&rng()), WorkerId::random(&rng()));
    let saga = new_saga(a);
    store.create(saga.clone()).await.unwrap();
    let (mut epoch, mut length) = (1, 1);
    for round in 0..30 {
        let (writer, taker, next) =
            if round % 2 == 0 { (store, &other, b) } else { (&other, store, a) };
        let (appended, taken) = tokio::join!(
            writer.append(append(saga.id, epoch, length)),
            taker.take_saga(next, saga.id)
        );
        if let Ok(_done) = appended {
            length += 1;
        } else {
            assert!(appended.unwrap_err().is_fenced());
        }
        if let Some(record) = taken.unwrap() {
            epoch += 1;
            assert_eq!(record.epoch, epoch);
            // Before or after the take-over, but the log has exactly the entries that the taker
            // saw.
            assert_eq!(record.entries.len() as u64, length);
        }
    }
}
