//! The retention of receipts, and tables of the release that did not record their time.

use std::time::Duration;

use buttress::Clock;
use buttress_durable::outbox::{Config, Inbox, Message, MessageId, Outbox, Receipt, Relay, Store};
use buttress_sqlx::SqliteStore;
use tower::{BoxError, service_fn};

use crate::db::{Db, SECOND, on_each_database};

on_each_database! {
    receipts_of_the_release_before_are_kept_from_the_first_purge_on
    old_receipts_are_removed_in_the_background
}

const AGE: Duration = Duration::from_secs(3600);

async fn receive<D: Db>(db: &D, store: &D::Store, number: u128) -> Receipt {
    let mut tx = db.begin().await;
    let receipt = store.receive(&mut tx, "billing", MessageId::new(number)).await.unwrap();
    db.commit(tx).await;
    receipt
}

/// Restores the tables of version 1, with a row in each.
async fn back_to_version_1<D: Db>(db: &D) {
    crate::executors::without_waits(db).await;
    db.execute("ALTER TABLE {s}buttress_saga_entry DROP COLUMN recorded_at").await;
    db.execute("DROP TABLE {s}buttress_dead_letter").await;
    // SQLite needs neither `order` nor `counter`.
    for table in ["", "_stream", "_order", "_counter", "_snapshot", "_projection"] {
        db.execute(&format!("DROP TABLE IF EXISTS {{s}}buttress_event{table}")).await;
    }
    for table in ["inbox", "inbox_step"] {
        for sql in [
            format!("DROP INDEX {{s}}buttress_{table}_received"),
            format!("ALTER TABLE {{s}}buttress_{table} DROP COLUMN received_at"),
        ] {
            db.execute(&sql).await;
        }
    }
    for index in ["outbox_delayed_since", "outbox_hold_since", "saga_old"] {
        db.execute(&format!("DROP INDEX {{s}}buttress_{index}")).await;
    }
    let leases = ["saga_worker", "outbox_lease", "outbox_relay"];
    for table in leases.into_iter().chain(["idempotency", "outbox", "outbox_hold"]) {
        db.execute(&format!("ALTER TABLE {{s}}buttress_{table} DROP COLUMN length")).await;
    }
    db.execute("UPDATE {s}buttress_schema SET value = 1 WHERE name = 'version'").await;
    let id = D::id_literal(7);
    let row =
        format!("INSERT INTO {{s}}buttress_inbox (consumer, message) VALUES ('billing', {id})");
    db.execute(&row).await;
}

async fn receipts_of_the_release_before_are_kept_from_the_first_purge_on<D: Db>(db: D) {
    back_to_version_1(&db).await;
    let store = db.another().await;
    assert_eq!(receive(&db, &store, 7).await, Receipt::Repeated);
    assert_eq!(store.purge_receipts(AGE, 100).await.unwrap(), 0, "now they have an age");
    db.time().advance(AGE - SECOND);
    assert_eq!(store.purge_receipts(AGE, 100).await.unwrap(), 0);
    assert_eq!(receive(&db, &store, 7).await, Receipt::Repeated);
    db.time().advance(SECOND);
    assert_eq!(store.purge_receipts(AGE, 100).await.unwrap(), 1);
    assert_eq!(receive(&db, &store, 7).await, Receipt::First);
}

/// Many more receipts than one transaction removes. Only those older than 30 days are removed.
async fn old_receipts_are_removed_in_the_background<D: Db>(db: D) {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    db.execute(&D::many_receipts(5000)).await;
    db.time().advance(days(1));
    db.store().purge_receipts(days(30), 100_000).await.unwrap();
    db.time().advance(days(29));
    assert_eq!(receive(&db, db.store(), 0).await, Receipt::First);
    assert_eq!(db.count("buttress_inbox").await, 5001);
    db.time().advance(days(1));
    // The store first purges once per second.
    let clock = Clock::default();
    let give_up = clock.now() + 90 * SECOND;
    while db.count("buttress_inbox").await > 1 {
        assert!(clock.now() < give_up, "{} are left", db.count("buttress_inbox").await);
        clock.sleep(SECOND / 10).await;
    }
    assert_eq!(receive(&db, db.store(), 0).await, Receipt::Repeated);
}

/// The relay reports its longest retry time, and the store its retention of receipts.
#[tokio::test]
async fn a_relay_refuses_a_store_that_forgets_sooner_than_it_retries() {
    crate::db::on_sqlite(async |db: crate::db::Sqlite| {
        let publisher = || service_fn(async |_: Message| Ok::<(), BoxError>(()));
        let config = Config::new().max_hint(Duration::from_secs(100)).publish_timeout(SECOND);
        // Five attempts and the four waits between them.
        assert_eq!(config.longest_retry(), Duration::from_secs(405));
        let open = async |kept: Option<Duration>| {
            let sqlite = buttress_sqlx::SqliteConfig::new(&db.path).keep_receipts(kept);
            Outbox::new(SqliteStore::open(sqlite).await.unwrap())
        };
        for kept in [None, Some(Duration::from_secs(405)), Some(AGE)] {
            assert!(Relay::new(&open(kept).await, publisher(), config.clone()).is_ok(), "{kept:?}");
        }
        let kept = Some(Duration::from_secs(404));
        let error = Relay::new(&open(kept).await, publisher(), config).unwrap_err();
        assert_eq!((error.field(), error.value()), ("keep-receipts", "404s"));
        assert!(error.bound().contains("405s"), "{error}");
        let none = buttress_sqlx::SqliteConfig::new(&db.path).keep_receipts(Duration::ZERO);
        assert!(SqliteStore::open(none).await.unwrap_err().to_string().contains("keep-receipts"));
    })
    .await;
}
