//! The age of rows after the wall clock was set back. Nothing is purged early, and nothing is kept
//! for longer than its retention from the first purge after the change.

use std::time::Duration;

use buttress_durable::outbox::{
    Inbox, MessageId, NewMessage, RelayId, Renewal, Settled, Store as _, Verdict,
};
use buttress_durable::saga::{Barrier as _, SagaId, Status, Store as _, WorkerId};

use crate::db::{Db, HOUR, NANO, SECOND, on_each_database, rng};
use crate::sagas::{append, changed, new_saga};

const AGE: Duration = Duration::from_secs(600);

on_each_database! {
    ended_sagas_are_kept_for_their_retention
    sagas_of_one_definition_are_kept_for_their_retention
    delivered_messages_are_kept_for_their_retention
    receipts_and_barriers_are_kept_for_their_retention
}

/// The rows that a test purges.
#[derive(Clone, Copy)]
enum Rows {
    Sagas,
    SagasOfOneDefinition,
    Messages,
    Receipts,
}

async fn purge<D: Db>(db: &D, rows: Rows) -> usize {
    let store = db.store();
    let purged = match rows {
        Rows::Sagas => store.purge_sagas(None, AGE, 9).await,
        Rows::SagasOfOneDefinition => store.purge_sagas(Some("order"), AGE, 9).await,
        Rows::Messages => store.purge_delivered(AGE, 9).await,
        Rows::Receipts => store.purge_receipts(AGE, 9).await,
    };
    purged.unwrap()
}

/// Sets the clock back twice. Then `count` rows are purged when `AGE` has passed since the first
/// purge after that, and none before.
async fn kept<D: Db>(db: &D, rows: Rows, count: usize) {
    for skew in [-HOUR, -2 * HOUR] {
        db.time().set_skew(skew);
        assert_eq!(purge(db, rows).await, 0, "early");
        db.time().advance(AGE - NANO);
        assert_eq!(purge(db, rows).await, 0, "early");
    }
    db.time().advance(NANO);
    assert_eq!(purge(db, rows).await, count);
    assert_eq!(purge(db, rows).await, 0);
}

async fn ended<D: Db>(db: &D) {
    let store = db.store();
    for status in [Status::Completed, Status::Compensated] {
        let saga = new_saga(WorkerId::random(&rng()));
        store.create(saga.clone()).await.unwrap();
        let end = changed(append(saga.id, 1, 1), |append| append.status = status);
        store.append(end).await.unwrap();
    }
}

async fn ended_sagas_are_kept_for_their_retention<D: Db>(db: D) {
    ended(&db).await;
    kept(&db, Rows::Sagas, 2).await;
}

async fn sagas_of_one_definition_are_kept_for_their_retention<D: Db>(db: D) {
    ended(&db).await;
    kept(&db, Rows::SagasOfOneDefinition, 2).await;
}

async fn delivered_messages_are_kept_for_their_retention<D: Db>(db: D) {
    let store = db.store();
    let relay = RelayId::random(&rng());
    db.write(vec![NewMessage::new(MessageId::random(&rng()), "a", b"payload".to_vec())]).await;
    let leases =
        store.lease_partitions(Renewal::new(relay, 60 * SECOND, &[])).await.unwrap().leases;
    let found = store.fetch(relay, &leases, 9).await.unwrap().messages.remove(0);
    let lease = leases.iter().find(|lease| lease.partition == found.partition);
    let settled = Settled::new(&found, *lease.unwrap(), Verdict::Delivered);
    assert!(store.settle(vec![settled]).await.unwrap().is_empty());
    kept(&db, Rows::Messages, 1).await;
}

async fn receipts_and_barriers_are_kept_for_their_retention<D: Db>(db: D) {
    let store = db.store();
    let mut tx = db.begin().await;
    store.receive(&mut tx, "billing", MessageId::new(1)).await.unwrap();
    store.action(&mut tx, SagaId::new(1), "charge").await.unwrap();
    db.commit(tx).await;
    kept(&db, Rows::Receipts, 2).await;
}
