//! Damaged rows of messages, partitions, leases and barriers. Each is an error of one item, and
//! stops no other item.

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress::idempotency::{self, ClaimId, Claimed, Key, KeyClaim};
use buttress_durable::outbox::{
    self, Lease, Message, MessageId, NewMessage, RelayId, Renewal, Settled, Store as _, Verdict,
};
use buttress_durable::saga::{Barrier as _, Passage, SagaId, Status, Store as _, WorkerId};

use crate::db::{Db, SECOND, on_each_database, rng};
use crate::sagas::{append, changed, new_saga};

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const LAST: i64 = i64::MAX;

on_each_database! {
    the_last_epoch_of_a_partition_is_never_assigned
    a_partition_that_is_not_ours_is_left_alone
    damaged_messages_do_not_fill_a_batch
    a_damaged_message_is_buried_whatever_its_numbers_say
    damaged_leases_end
    damaged_counts_of_a_barrier_stop_nothing
}

pub(crate) async fn lease<S: outbox::Store>(store: &S, relay: RelayId) -> Vec<Lease> {
    store.lease_partitions(Renewal::new(relay, LEASE, &[])).await.unwrap().leases
}

async fn the_last_epoch_of_a_partition_is_never_assigned<D: Db>(db: D) {
    let store = db.store();
    for (partition, epoch) in [(3, LAST), (4, LAST - 1), (5, LAST - 2), (6, -7), (7, i64::MIN)] {
        db.execute(&format!(
            "UPDATE {{s}}buttress_outbox_lease SET epoch = {epoch} WHERE partition = {partition}"
        ))
        .await;
    }
    let leases = lease(store, RelayId::new(1)).await;
    let partitions: Vec<u16> = leases.iter().map(|lease| lease.partition).collect();
    assert_eq!(partitions, [0, 1, 2, 5, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(leases[3].epoch, LAST as u64 - 1);
    // Its owner renews it. After that no relay takes it.
    db.time().advance(LEASE / 2);
    assert_eq!(lease(store, RelayId::new(1)).await, leases);
    outbox::Store::release_partitions(store, RelayId::new(1)).await.unwrap();
    let next = lease(store, RelayId::new(2)).await;
    assert_eq!(next.len(), 11);
    assert!(next.iter().all(|lease| lease.epoch == 2));
}

async fn a_partition_that_is_not_ours_is_left_alone<D: Db>(db: D) {
    let store = db.store();
    for partition in [-1, 16, 70_000] {
        let sql =
            format!("INSERT INTO {{s}}buttress_outbox_lease (partition) VALUES ({partition})");
        db.execute(&sql).await;
    }
    let leases = lease(store, RelayId::new(1)).await;
    assert_eq!(leases.len(), 16);
    assert!(store.fetch(RelayId::new(1), &leases, 9).await.unwrap().messages.is_empty());
}

pub(crate) fn message(key: &str) -> NewMessage {
    NewMessage::new(MessageId::random(&rng()), key, b"payload".to_vec())
}

fn delivered(message: &Message, leases: &[Lease]) -> Vec<Settled> {
    let lease = leases.iter().find(|lease| lease.partition == message.partition);
    vec![Settled::new(message, *lease.unwrap(), Verdict::Delivered)]
}

/// The damaged messages come first, more than a fetch takes.
async fn damaged_messages_do_not_fill_a_batch<D: Db>(db: D) {
    let store = db.store();
    let relay = RelayId::new(1);
    let leases = lease(store, relay).await;
    db.write((0..5).map(|n| message(&format!("bad {n}"))).collect()).await;
    db.execute("UPDATE {s}buttress_outbox SET attempts = 9223372036854775807").await;
    let good = message("good");
    db.write(vec![good.clone()]).await;
    let mut found = Vec::new();
    for _ in 0..6 {
        found = store.fetch(relay, &leases, 1).await.unwrap().messages;
        if !found.is_empty() {
            break;
        }
    }
    assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [good.id]);
    assert_eq!(store.dead_letters(0, 9).await.unwrap().len(), 5);
    assert!(store.settle(delivered(&found[0], &leases)).await.unwrap().is_empty());
}

/// Writes six messages of six keys, and damages the row of each of the first four.
pub(crate) async fn four_of_six_damaged<D: Db>(db: &D, damage: [&str; 4]) -> Vec<NewMessage> {
    let written: Vec<NewMessage> = (0..6).map(|n| message(&format!("key {n}"))).collect();
    db.write(written.clone()).await;
    for (sequence, set) in (1..).zip(damage) {
        let sql = format!("UPDATE {{s}}buttress_outbox SET {set} WHERE sequence = {sequence}");
        assert_eq!(db.execute(&sql).await, 1);
    }
    written
}

async fn a_damaged_message_is_buried_whatever_its_numbers_say<D: Db>(db: D) {
    let store = db.store();
    let relay = RelayId::new(1);
    let leases = lease(store, relay).await;
    let damage = [
        "attempts = 9223372036854775807",
        "starts = -1",
        "attempts = -9223372036854775808, starts = 9223372036854775807",
        "headers = payload, due_at = -9223372036854775808",
    ];
    let written = four_of_six_damaged(&db, damage).await;
    let found = store.fetch(relay, &leases, 9).await.unwrap().messages;
    let ids: Vec<MessageId> = found.iter().map(|found| found.id).collect();
    assert_eq!(ids, [written[4].id, written[5].id]);
    let letters = store.dead_letters(0, 9).await.unwrap();
    let dead: Vec<MessageId> = letters.iter().map(|letter| letter.message.id).collect();
    assert_eq!(dead, written[..4].iter().map(|message| message.id).collect::<Vec<_>>());
    assert!(letters.iter().all(|letter| letter.error.contains("corrupt") && letter.holds_key));
    assert_eq!(store.discard(&dead).await.unwrap(), 4);
    for found in &found {
        assert!(store.settle(delivered(found, &leases)).await.unwrap().is_empty());
    }
    assert_eq!(store.backlog().await.unwrap().pending, 0);
}

/// Ends and lengths that were never granted hold no row forever, and overflow nowhere.
async fn damaged_leases_end<D: Db>(db: D) {
    let store = db.store();
    let key = Key::new("k").unwrap();
    let (worker, gone, next) = (WorkerId::new(1), RelayId::new(1), RelayId::new(2));
    for (until, length) in [(LAST, 5), (LAST, -5), (LAST, i64::MIN), (i64::MIN, LAST), (0, LAST)] {
        buttress_durable::saga::Store::renew_worker(store, worker, LEASE).await.unwrap();
        let saga = new_saga(worker);
        store.create(saga.clone()).await.unwrap();
        lease(store, gone).await;
        let claimed =
            idempotency::Store::claim(store, KeyClaim::new(&key, ClaimId::new(1)), LEASE).await;
        assert_eq!(claimed.unwrap(), Claimed::Owned);
        for table in ["saga_worker", "outbox_lease", "outbox_relay", "idempotency"] {
            db.execute(&format!(
                "UPDATE {{s}}buttress_{table} SET until = {until}, length = {length}"
            ))
            .await;
        }
        // One fetch finds it, and one comes when its length is over.
        store.take_saga(WorkerId::new(2), saga.id).await.unwrap();
        lease(store, next).await;
        let claim = ClaimId::random(&rng());
        let _first =
            idempotency::Store::claim(store, KeyClaim::new(&key, claim), LEASE).await.unwrap();
        db.time().advance(SECOND);
        let taken = store.take_saga(WorkerId::new(2), saga.id).await.unwrap();
        assert!(taken.is_some_and(|record| record.epoch >= 2), "{until} {length}");
        assert_eq!(lease(store, next).await.len(), 16, "{until} {length}");
        let claimed =
            idempotency::Store::claim(store, KeyClaim::new(&key, claim), LEASE).await.unwrap();
        assert_eq!(claimed, Claimed::Owned, "{until} {length}");
        outbox::Store::release_partitions(store, next).await.unwrap();
        idempotency::Store::release_claim(store, KeyClaim::new(&key, claim)).await.unwrap();
        let end = changed(append(saga.id, 1, 1), |more| more.status = Status::Completed);
        let _over = store.append(end).await;
    }
}

async fn damaged_counts_of_a_barrier_stop_nothing<D: Db>(db: D) {
    let store = db.store();
    let saga = SagaId::new(7);
    let pass = async |undo: bool| {
        let mut tx = db.begin().await;
        let passage = match undo {
            false => store.action(&mut tx, saga, "charge").await,
            true => store.undo(&mut tx, saga, "charge").await,
        };
        db.commit(tx).await;
        passage
    };
    assert_eq!(pass(false).await.unwrap(), Passage::Proceed);
    for count in [LAST, i64::MIN, -1] {
        db.execute(&format!(
            "UPDATE {{s}}buttress_inbox_step SET state = 1, actions = {count}, undos = {count}"
        ))
        .await;
        assert_eq!(pass(false).await.unwrap(), Passage::Repeated);
        assert_eq!(pass(true).await.unwrap(), Passage::Repeated);
    }
    db.execute("UPDATE {s}buttress_inbox_step SET state = -9").await;
    assert_eq!(pass(false).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}
