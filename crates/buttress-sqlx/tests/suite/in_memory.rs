//! Stores in memory: they do everything that a store in a file does.

use std::time::Duration;

use buttress::idempotency::{self, ClaimId, Claimed, CompleteIn, Completion, Key, KeyClaim};
use buttress::{Clock, StoreErrorKind};
use buttress_durable::outbox::{MessageId, NewMessage, RelayId, Renewal, Store as _, Write};
use buttress_durable::saga::{Page, SagaId, Store as _, WorkerId};
use buttress_sqlx::{SqliteConfig, SqliteStore};
use sqlx::sqlite::SqlitePoolOptions;

use crate::db::{SECOND, rng};
use crate::sagas::{append, new_saga};

/// Each connection of the pool, the writer, transactions of both kinds, and another store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_share_one_database_under_load() {
    let config = SqliteConfig::in_memory();
    let store = SqliteStore::open(config.clone()).await.unwrap();
    let other = SqliteStore::open(config).await.unwrap();
    let pool = SqlitePoolOptions::new().connect_lazy_with(store.config().connect_options());
    let worker = WorkerId::random(&rng());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (store, other, pool) = (store.clone(), other.clone(), pool.clone());
        tasks.spawn(async move {
            for _ in 0..20 {
                let saga = new_saga(worker);
                store.create(saga.clone()).await.unwrap();
                assert_eq!(other.load(saga.id).await.unwrap().unwrap().id, saga.id);
                let begun = match n % 2 {
                    0 => store.begin().await,
                    _ => other.begin_on(&pool).await,
                };
                let mut tx = begun.unwrap();
                let message = NewMessage::new(MessageId::random(&rng()), "k", "x");
                store.write(&mut tx, &message).await.unwrap();
                let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM buttress_outbox")
                    .fetch_one(&mut **tx)
                    .await
                    .unwrap();
                assert!(seen > 0);
                tx.commit().await.unwrap();
                other.append(append(saga.id, 1, 1)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(store.backlog().await.unwrap().pending, 160);
    assert_eq!(other.list(Page::first(1000)).await.unwrap().len(), 160);
    let relay = RelayId::new(1);
    let leases =
        other.lease_partitions(Renewal::new(relay, 60 * SECOND, &[])).await.unwrap().leases;
    assert_eq!(store.fetch(relay, &leases, 1000).await.unwrap().messages.len(), 160);
}

#[tokio::test]
async fn it_is_there_until_the_last_clone_goes_and_then_gone() {
    let config = SqliteConfig::in_memory();
    let store = SqliteStore::open(config.clone()).await.unwrap();
    let saga = new_saga(WorkerId::new(1));
    store.create(saga.clone()).await.unwrap();
    let clone = store.clone();
    drop(store);
    assert!(clone.load(saga.id).await.unwrap().is_some());
    // Also without a connection of the pool.
    clone.close().await;
    let again = SqliteStore::open(config.clone()).await.unwrap();
    assert!(again.load(saga.id).await.unwrap().is_some());
    drop((clone, again));
    let empty = SqliteStore::open(config).await.unwrap();
    assert_eq!(empty.load(saga.id).await.unwrap(), None);
    assert!(empty.list(Page::first(9)).await.unwrap().is_empty());
}

#[tokio::test]
async fn two_of_them_share_nothing() {
    let one = SqliteStore::open(SqliteConfig::in_memory()).await.unwrap();
    let two = SqliteStore::open(SqliteConfig::in_memory().partitions(3)).await.unwrap();
    let saga = new_saga(WorkerId::new(1));
    one.create(saga.clone()).await.unwrap();
    assert_eq!(two.load(saga.id).await.unwrap(), None);
    assert_eq!((one.partitions(), two.partitions()), (16, 3));
    assert_eq!(one.load(SagaId::new(1)).await.unwrap(), None);
}

/// A transaction that is rolled back, or dropped, and one that reads before it writes.
#[tokio::test]
async fn transactions_are_transactions() {
    let store = SqliteStore::open(SqliteConfig::in_memory()).await.unwrap();
    let (key, claim) = (Key::new("k").unwrap(), ClaimId::new(1));
    idempotency::Store::claim(&store, KeyClaim::new(&key, claim), 60 * SECOND).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    store
        .complete_in(&mut tx, Completion::new(KeyClaim::new(&key, claim), &b"x".to_vec(), SECOND))
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    store
        .complete_in(&mut tx, Completion::new(KeyClaim::new(&key, claim), &b"x".to_vec(), SECOND))
        .await
        .unwrap();
    drop(tx);
    let claimed =
        idempotency::Store::claim(&store, KeyClaim::new(&key, ClaimId::new(2)), SECOND).await;
    assert!(matches!(claimed.unwrap(), Claimed::InFlight { .. }));
    let mut tx = store.begin().await.unwrap();
    store
        .complete_in(
            &mut tx,
            Completion::new(KeyClaim::new(&key, claim), &b"x".to_vec(), 60 * SECOND),
        )
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let outcome = idempotency::Store::outcome(&store, KeyClaim::new(&key, claim)).await.unwrap();
    assert_eq!(outcome, Some(b"x".to_vec()));
}

/// A reader waits for the transaction that writes, and no longer than the busy timeout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_waits_for_a_writer_and_then_gets_an_error_that_passes() {
    let config = SqliteConfig::in_memory().busy_timeout(Duration::from_millis(50));
    let store = SqliteStore::open(config).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    store.write(&mut tx, &NewMessage::new(MessageId::new(1), "k", "x")).await.unwrap();
    let clock = Clock::default();
    let began = clock.now();
    assert!(store.backlog().await.unwrap_err().is_transient());
    let waited = clock.now() - began;
    assert!(waited >= Duration::from_millis(50), "{waited:?}");
    // The default busy timeout.
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    tx.commit().await.unwrap();
    assert_eq!(store.backlog().await.unwrap().pending, 1);
}

#[tokio::test]
async fn paths_that_name_no_file_are_refused_by_name() {
    for path in [":memory:", "", "file::memory:", "file:x?mode=memory&cache=shared", "file:"] {
        let error = SqliteStore::open(SqliteConfig::new(path)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(&format!("\"{path}\"")), "{error}");
        assert!(error.to_string().contains("in_memory"), "{error}");
    }
}
