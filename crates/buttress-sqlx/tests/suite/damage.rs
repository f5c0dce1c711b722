//! Rows that are damaged, or that a malicious user wrote. Each is an error of one item, and
//! stops no other item.

use buttress::StoreErrorKind;
use buttress::idempotency::{self, ClaimId, Claimed, Key, KeyClaim, Store as _};
use buttress_durable::outbox::{Lease, MessageId, NewMessage, RelayId, Store as _};
use buttress_durable::saga::{Page, SagaId, Store as _, WorkerId};

use crate::damaged_messages::{LAST, LEASE, four_of_six_damaged, lease, message};
use crate::db::{Db, on_each_database, rng};
use crate::sagas::{append, new_saga, take};

on_each_database! {
    numbers_of_a_saga_that_cannot_be
    pages_go_on_behind_damaged_sagas
    the_last_epoch_of_a_saga_is_never_assigned
    epochs_that_nobody_was_given_own_nothing
    a_damaged_log_fails_only_its_own_append
}

/// Sagas of a worker without a lease, oldest first.
async fn sagas<D: Db>(db: &D, count: usize) -> Vec<SagaId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let saga = new_saga(WorkerId::new(1));
        db.store().create(saga.clone()).await.unwrap();
        ids.push(saga.id);
    }
    ids
}

/// Changes the row of the saga that was created as number `n`, counted from 0.
async fn change<D: Db>(db: &D, n: usize, set: &str) {
    let sql = format!(
        "UPDATE {{s}}buttress_saga SET {set} WHERE number = \
         (SELECT number FROM {{s}}buttress_saga ORDER BY number LIMIT 1 OFFSET {n})"
    );
    assert_eq!(db.execute(&sql).await, 1);
}

/// The damaged sagas are reported; the others are listed, read and taken over.
async fn only_these_are_corrupt<D: Db>(db: &D, ids: &[SagaId], damaged: &[usize], name: &[bool]) {
    let store = db.store();
    let sound: Vec<SagaId> =
        (0..).zip(ids).filter(|(n, _)| !damaged.contains(n)).map(|(_, id)| *id).collect();
    let mut sorted = sound.clone();
    sorted.sort();
    let listed = store.list(Page::first(100)).await.unwrap();
    assert_eq!(listed.iter().map(|line| line.id).collect::<Vec<_>>(), sorted);
    for id in &sound {
        assert_eq!(store.load(*id).await.unwrap().unwrap().id, *id);
    }
    for (n, named) in damaged.iter().zip(name) {
        if *named {
            let error = store.load(ids[*n]).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains(&ids[*n].to_string()), "{error}");
            let error = store.take_saga(WorkerId::new(2), ids[*n]).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
        }
    }
    let taken = take(store, WorkerId::new(2), 100).await;
    assert_eq!(taken.sagas.iter().map(|record| record.id).collect::<Vec<_>>(), sound);
    assert_eq!(taken.corrupt.len(), damaged.len(), "{:?}", taken.corrupt);
    for ((n, named), (id, _)) in damaged.iter().zip(name).zip(&taken.corrupt) {
        if *named {
            assert_eq!(*id, ids[*n]);
        }
    }
}

async fn numbers_of_a_saga_that_cannot_be<D: Db>(db: D) {
    let ids = sagas(&db, 8).await;
    change(&db, 0, "epoch = -1").await;
    change(&db, 2, "deadline = -1").await;
    change(&db, 3, "length = -9223372036854775808").await;
    change(&db, 5, "length = 9223372036854775807").await;
    let store = db.store();
    // A list reads no logs and no deadlines.
    let listed = store.list(Page::first(100)).await.unwrap();
    assert_eq!(listed.len(), 7);
    for n in [0, 2, 3, 5] {
        let error = store.load(ids[n]).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    }
    let taken = take(store, WorkerId::new(2), 100).await;
    let corrupt: Vec<SagaId> = taken.corrupt.iter().map(|(id, _)| *id).collect();
    assert_eq!(corrupt, [ids[0], ids[2], ids[3], ids[5]]);
    assert_eq!(taken.sagas.len(), 4);
}

async fn pages_go_on_behind_damaged_sagas<D: Db>(db: D) {
    let store = db.store();
    let mut ids = sagas(&db, 12).await;
    ids.sort();
    // All except two, at the end of the order.
    let kept = [D::id_literal(ids[10].get()), D::id_literal(ids[11].get())].join(", ");
    let sql = format!("UPDATE {{s}}buttress_saga SET status = 99 WHERE id NOT IN ({kept})");
    assert_eq!(db.execute(&sql).await, 10);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.list(Page::first(1).after(after)).await.unwrap();
        let Some(line) = page.first() else { break };
        seen.push(line.id);
        after = Some(line.id);
    }
    assert_eq!(seen, ids[10..]);
}

async fn the_last_epoch_of_a_saga_is_never_assigned<D: Db>(db: D) {
    let store = db.store();
    let ids = sagas(&db, 6).await;
    for (n, epoch) in [(0, LAST), (1, LAST - 1), (2, LAST - 2)] {
        change(&db, n, &format!("epoch = {epoch}")).await;
    }
    for n in [0, 1] {
        let error = store.take_saga(WorkerId::new(2), ids[n]).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(&ids[n].to_string()), "{error}");
    }
    let taken = take(store, WorkerId::new(2), 100).await;
    let corrupt: Vec<SagaId> = taken.corrupt.iter().map(|(id, _)| *id).collect();
    assert_eq!(corrupt, ids[..2]);
    let epochs: Vec<u64> = taken.sagas.iter().map(|record| record.epoch).collect();
    assert_eq!(epochs, [LAST as u64 - 1, 2, 2, 2]);
    // The last assigned epoch works, until the saga would have to be taken over.
    store.append(append(ids[2], LAST as u64 - 1, 1)).await.unwrap();
    let again = take(store, WorkerId::new(3), 100).await;
    assert_eq!(again.sagas.len(), 3);
    assert_eq!(again.corrupt.len(), 3);
    // The damaged sagas stay unchanged.
    let sql = format!("UPDATE {{s}}buttress_saga SET epoch = epoch WHERE epoch >= {}", LAST - 1);
    assert_eq!(db.execute(&sql).await, 3);
    assert_eq!(db.execute("UPDATE {s}buttress_saga SET epoch = epoch WHERE epoch < 1").await, 0);
}

async fn epochs_that_nobody_was_given_own_nothing<D: Db>(db: D) {
    let store = db.store();
    let ids = sagas(&db, 1).await;
    change(&db, 0, &format!("epoch = {LAST}")).await;
    for epoch in [LAST as u64, LAST as u64 + 1, u64::MAX] {
        let error = store.append(append(ids[0], epoch, 1)).await.unwrap_err();
        assert!(error.is_fenced(), "{error}");
    }
    change(&db, 0, "epoch = 1, length = 9223372036854775807").await;
    for position in [u64::MAX, LAST as u64] {
        let error = store.append(append(ids[0], 1, position)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
    }
    // A lease of an epoch that is in no row.
    let relay = RelayId::new(1);
    let leases = lease(store, relay).await;
    db.execute(&format!("UPDATE {{s}}buttress_outbox_lease SET epoch = {LAST}")).await;
    let invented = Lease::new(leases[0].partition, u64::MAX);
    assert!(store.record_start(invented, MessageId::new(1), 1).await.unwrap_err().is_fenced());
    assert!(store.clear_suspects(invented).await.unwrap_err().is_fenced());
    assert!(store.fetch(relay, &[invented], 9).await.unwrap().messages.is_empty());
}

/// In one batch with other operations, only the caller of the damaged saga gets the error.
async fn a_damaged_log_fails_only_its_own_append<D: Db>(db: D) {
    let store = db.store();
    let ids = sagas(&db, 4).await;
    change(&db, 1, "deadline = -1, status = 99").await;
    db.execute("UPDATE {s}buttress_saga_entry SET kind = -1, step = 70000").await;
    // Repeated appends read the log.
    for id in &ids {
        store.append(append(*id, 1, 1)).await.unwrap();
    }
    let outcomes = tokio::join!(
        store.append(append(ids[0], 1, 1)),
        store.append(append(ids[1], 1, 0)),
        store.append(append(ids[2], 1, 1)),
        store.create(new_saga(WorkerId::new(1))),
    );
    outcomes.0.unwrap();
    assert_eq!(outcomes.1.unwrap_err().kind(), StoreErrorKind::Conflict);
    outcomes.2.unwrap();
    outcomes.3.unwrap();
}

/// Values that STRICT tables of SQLite accept.
mod on_files {
    use super::*;
    use crate::db::{Sqlite, on_sqlite};

    #[tokio::test]
    async fn texts_and_identifiers_of_a_saga_that_cannot_be() {
        on_sqlite(async |db: Sqlite| {
            let ids = sagas(&db, 7).await;
            change(&db, 0, "codec = CAST(x'ff' AS TEXT)").await;
            change(&db, 2, "id = x'0102'").await;
            change(&db, 3, "worker = x''").await;
            change(&db, 5, "id = x'000102030405060708090a0b0c0d0e0f10'").await;
            let named = [true, false, true, false];
            only_these_are_corrupt(&db, &ids, &[0, 2, 3, 5], &named).await;
            // A repeated creation of a damaged saga gets the error.
            let mut again = new_saga(WorkerId::new(1));
            again.id = ids[0];
            let (broken, fine) =
                tokio::join!(db.store.create(again), db.store.create(new_saga(WorkerId::new(1))));
            assert_eq!(broken.unwrap_err().kind(), StoreErrorKind::Corrupt);
            fine.unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn a_number_that_leaves_no_room_behind_it() {
        on_sqlite(async |db: Sqlite| {
            sagas(&db, 2).await;
            change(&db, 1, "number = 9223372036854775807").await;
            // Lines that no saga has any more, at the place of the next saga's lines.
            db.execute("INSERT INTO buttress_saga_entry VALUES (3, -1, 0, 0, x'', NULL, NULL)")
                .await;
            let saga = new_saga(WorkerId::new(1));
            db.store.create(saga.clone()).await.unwrap();
            assert_eq!(db.store.load(saga.id).await.unwrap().unwrap().entries.len(), 1);
        })
        .await;
    }

    #[tokio::test]
    async fn identifiers_of_claims_that_cannot_be() {
        on_sqlite(async |db: Sqlite| {
            let keys: Vec<Key> = (0..3).map(|n| Key::new(&format!("k{n}")).unwrap()).collect();
            let mine = ClaimId::new(1);
            for key in &keys {
                idempotency::Store::claim(&db.store, KeyClaim::new(key, mine), LEASE)
                    .await
                    .unwrap();
            }
            db.execute("UPDATE buttress_idempotency SET claim = x'01' WHERE key LIKE '%k0'").await;
            db.execute("UPDATE buttress_idempotency SET fingerprint = x'01' WHERE key LIKE '%k1'")
                .await;
            let claim = |n: usize| {
                let (store, key) = (db.store.clone(), keys[n].clone());
                async move {
                    idempotency::Store::claim(&store, KeyClaim::new(&key, ClaimId::new(2)), LEASE)
                        .await
                }
            };
            let (one, two, three) = tokio::join!(claim(0), claim(1), claim(2));
            for (n, error) in [(0, one.unwrap_err()), (1, two.unwrap_err())] {
                assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
                assert!(error.to_string().contains(&format!("k{n}")), "{error}");
            }
            assert_eq!(three.unwrap(), Claimed::InFlight { lease_left: LEASE });
            let (one, two) = tokio::join!(
                db.store.complete(KeyClaim::new(&keys[0], mine), Vec::new(), LEASE),
                db.store.complete(KeyClaim::new(&keys[2], mine), Vec::new(), LEASE),
            );
            assert_eq!(one.unwrap_err().kind(), StoreErrorKind::Corrupt);
            two.unwrap();
            let error = db.store.outcome(KeyClaim::new(&keys[0], mine)).await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Corrupt);
            // It is free when its lease is over, like any other.
            db.time().advance(LEASE);
            assert_eq!(claim(0).await.unwrap(), Claimed::Owned);
        })
        .await;
    }

    #[tokio::test]
    async fn texts_and_identifiers_of_messages_that_cannot_be() {
        on_sqlite(async |db: Sqlite| {
            let relay = RelayId::new(1);
            db.execute("UPDATE buttress_outbox_lease SET relay = x'01' WHERE partition = 1").await;
            let leases = lease(&db.store, relay).await;
            assert_eq!(leases.len(), 16, "its lease is over");
            let damage = [
                "id = x'01'",
                "key = CAST(x'ff' AS TEXT)",
                "topic = CAST(x'ff' AS TEXT)",
                "sequence = -5, starts = -1",
            ];
            let written = four_of_six_damaged(&db, damage).await;
            // A message without a readable key holds all messages behind it, until it is a dead
            // letter.
            let mut ids = Vec::new();
            for _ in 0..3 {
                let found = db.store.fetch(relay, &leases, 9).await.unwrap().messages;
                ids = found.iter().map(|found| found.id).collect();
            }
            assert_eq!(ids, [written[4].id, written[5].id]);
            db.execute("UPDATE buttress_outbox SET error = CAST(x'ff' AS TEXT)").await;
            assert_eq!(db.store.dead_letters(0, 9).await.unwrap().len(), 3);
            assert_eq!(db.store.backlog().await.unwrap().dead, 4);
        })
        .await;
    }
}

/// Values that PostgreSQL accepts once the tables were changed.
#[cfg(feature = "postgres")]
mod on_schemas {
    use super::*;
    use crate::db::{Postgres, on_postgres};

    #[tokio::test]
    async fn nothing_where_something_must_be() {
        on_postgres("nothing_where_something_must_be", async |db: Postgres| {
            let ids = sagas(&db, 5).await;
            let alter = async |table: &str, column: &str| {
                db.execute(&format!(
                    "ALTER TABLE {{s}}buttress_{table} ALTER COLUMN {column} DROP NOT NULL"
                ))
                .await;
            };
            for column in ["codec", "epoch", "cancel", "id"] {
                alter("saga", column).await;
            }
            change(&db, 0, "codec = NULL").await;
            change(&db, 2, "epoch = NULL, cancel = NULL").await;
            only_these_are_corrupt(&db, &ids, &[0, 2], &[true, true]).await;

            alter("idempotency", "until").await;
            let (bad, good) = (Key::new("bad").unwrap(), Key::new("good").unwrap());
            let claim = async |key: &Key| {
                idempotency::Store::claim(
                    &db.store,
                    KeyClaim::new(key, ClaimId::random(&rng())),
                    LEASE,
                )
                .await
            };
            claim(&bad).await.unwrap();
            db.execute("UPDATE {s}buttress_idempotency SET until = NULL").await;
            let (broken, fine) = tokio::join!(claim(&bad), claim(&good));
            assert_eq!(broken.unwrap_err().kind(), StoreErrorKind::Corrupt);
            assert_eq!(fine.unwrap(), Claimed::Owned);

            alter("outbox", "payload").await;
            alter("outbox", "key").await;
            let leases = lease(&db.store, RelayId::new(1)).await;
            let written: Vec<NewMessage> = (0..3).map(|n| message(&format!("key {n}"))).collect();
            db.write(written.clone()).await;
            db.execute("UPDATE {s}buttress_outbox SET payload = NULL WHERE sequence = 1").await;
            let found = db.store.fetch(RelayId::new(1), &leases, 9).await.unwrap().messages;
            assert_eq!(found.len(), 2);
            let letters = db.store.dead_letters(0, 9).await.unwrap();
            assert_eq!(letters[0].message.id, written[0].id);
        })
        .await;
    }
}
