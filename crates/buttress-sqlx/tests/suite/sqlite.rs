//! Behaviour of SQLite alone.

use std::future::{Future as _, poll_fn};
use std::task::Poll;
use std::time::Duration;

use buttress::{StoreErrorKind, VirtualClock};
use buttress_durable::outbox::{MessageId, NewMessage, Store as _, Write};
use buttress_durable::saga::{Entry, Page, SagaId, Status, Store, WorkerId};
use buttress_sqlx::{SqliteConfig, SqliteStore, Synchronous};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use crate::db::{Db, SECOND, concurrently, fresh_path, on_sqlite, remove, rng};
use crate::sagas::{append, new_saga, take};

/// A file for a test without the usual store, removed at its end.
struct File(std::path::PathBuf);

impl File {
    fn new() -> Self {
        Self(fresh_path())
    }

    fn config(&self) -> SqliteConfig {
        SqliteConfig::new(&self.0)
    }

    /// A connection outside the queue, like another process.
    async fn connect(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(&self.0).connect().await.unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_open_a_new_file_at_once_and_again() {
    let file = File::new();
    let opened = concurrently(8, || SqliteStore::open(file.config())).await;
    assert!(opened.iter().all(|store| store.partitions() == 16));
    drop(opened);
    let store = SqliteStore::open(file.config().partitions(16)).await.unwrap();
    let mut connection = file.connect().await;
    let leases: i64 = sqlx::query_scalar("SELECT count(*) FROM buttress_outbox_lease")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!((leases, store.partitions()), (16, 16));
}

#[tokio::test]
async fn what_cannot_be_opened() {
    let file = File::new();
    drop(SqliteStore::open(file.config().partitions(3)).await.unwrap());
    let error = SqliteStore::open(file.config().partitions(4)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(error.to_string().contains("the tables have 3 partitions"), "{error}");
    assert_eq!(SqliteStore::open(file.config()).await.unwrap().partitions(), 3);

    let mut connection = file.connect().await;
    let later = "UPDATE buttress_schema SET value = 9 WHERE name = 'version'";
    sqlx::query(later).execute(&mut connection).await.unwrap();
    let error = SqliteStore::open(file.config()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("version 9"), "{error}");

    let text = File::new();
    std::fs::write(&text.0, "not a database, but long enough to be read as one ".repeat(99))
        .unwrap();
    let error = SqliteStore::open(text.config()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    let nowhere = std::env::temp_dir().join("buttress-no-such-folder").join("file.db");
    let error = SqliteStore::open(SqliteConfig::new(&nowhere)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    assert!(error.to_string().contains(nowhere.to_str().unwrap()), "{error}");
    let read_only = File::new();
    let config = || read_only.config().pragma("query_only", "on");
    let error = SqliteStore::open(config()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    // It was writable when the tables were created.
    drop(SqliteStore::open(read_only.config()).await.unwrap());
    let error = SqliteStore::open(config()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("readonly"), "{error}");
    for config in [
        file.config().partitions(0),
        file.config().partitions(129),
        file.config().connections(0),
        file.config().queue(0),
        file.config().batch_rows(0),
        file.config().results(0),
        file.config().busy_timeout(Duration::ZERO),
    ] {
        let error = SqliteStore::open(config).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    }
}

/// Lets every other task of this thread run as far as it can.
async fn others_go_on() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Operations that wait for the writer while another transaction writes go into one transaction,
/// which waits in the queue like any other.
#[tokio::test]
async fn callers_at_the_same_time_share_a_transaction() {
    on_sqlite(async |db: crate::db::Sqlite| {
        let store = db.store.clone();
        let first = store.begin().await.unwrap();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let store = store.clone();
            callers.spawn(async move { store.create(new_saga(WorkerId::new(1))).await.unwrap() });
        }
        // All operations are queued, and the writer waits in the queue.
        others_go_on().await;
        let second = tokio::spawn({
            let store = store.clone();
            async move {
                let mut tx = store.begin().await.unwrap();
                let sql = "SELECT count(*) FROM buttress_saga";
                sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut **tx).await.unwrap()
            }
        });
        others_go_on().await;
        assert!(!second.is_finished(), "one writes at a time");
        assert!(callers.try_join_next().is_none());
        first.commit().await.unwrap();
        assert_eq!(second.await.unwrap(), 64, "all in the one turn of the writer");
        callers.join_all().await;
    })
    .await;
}

/// A plain transaction that reads and then writes fails immediately if another transaction wrote in
/// between. A transaction of `begin` does not, under any load of the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_read_and_then_write_work_beside_a_busy_store() {
    on_sqlite(async |db: crate::db::Sqlite| {
        let store = db.store.clone();
        db.execute("CREATE TABLE counter (n INTEGER NOT NULL)").await;
        db.execute("INSERT INTO counter VALUES (0)").await;
        let worker = WorkerId::random(&rng());
        let mut load = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            load.spawn(async move {
                for _ in 0..30 {
                    let saga = new_saga(worker);
                    store.create(saga.clone()).await.unwrap();
                    store.append(append(saga.id, 1, 1)).await.unwrap();
                }
            });
        }
        // Half of them on a pool of the user's.
        let pool = sqlx::SqlitePool::connect_lazy_with(store.config().connect_options());
        let mut users = tokio::task::JoinSet::new();
        for user in 0..8 {
            let (store, pool) = (store.clone(), pool.clone());
            users.spawn(async move {
                for _ in 0..20 {
                    let begun = match user % 2 {
                        0 => store.begin().await,
                        _ => store.begin_on(&pool).await,
                    };
                    let mut tx = begun.unwrap();
                    let n: i64 = sqlx::query_scalar("SELECT n FROM counter")
                        .fetch_one(&mut **tx)
                        .await
                        .unwrap();
                    tokio::task::yield_now().await;
                    let message = NewMessage::new(MessageId::random(&rng()), "k", "x");
                    store.write(&mut tx, &message).await.unwrap();
                    sqlx::query("UPDATE counter SET n = ?")
                        .bind(n + 1)
                        .execute(&mut **tx)
                        .await
                        .unwrap();
                    tx.commit().await.unwrap();
                }
            });
        }
        users.join_all().await;
        load.join_all().await;
        let n: i64 =
            sqlx::query_scalar("SELECT n FROM counter").fetch_one(store.pool()).await.unwrap();
        assert_eq!(n, 160, "no update was lost");
        assert_eq!(store.backlog().await.unwrap().pending, 160);
        let sagas: i64 = sqlx::query_scalar("SELECT count(*) FROM buttress_saga_entry")
            .fetch_one(store.pool())
            .await
            .unwrap();
        assert_eq!(sagas, 8 * 30 * 3);
    })
    .await;
}

#[tokio::test]
async fn a_locked_file_is_waited_for_and_then_an_error_that_passes() {
    let file = File::new();
    let config = file.config().busy_timeout(Duration::from_millis(100));
    let store = SqliteStore::open(config).await.unwrap();
    let saga = new_saga(WorkerId::new(1));
    store.create(saga.clone()).await.unwrap();
    // Another process, outside the queue.
    let mut stranger = file.connect().await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut stranger).await.unwrap();
    let before = std::time::Instant::now();
    let error = store.append(append(saga.id, 1, 1)).await.unwrap_err();
    assert!(error.is_transient() && std::error::Error::source(&error).is_some(), "{error:?}");
    assert!(store.begin().await.unwrap_err().is_transient());
    // The default would be 5 seconds for each of the two.
    assert!(before.elapsed() < 9 * SECOND);
    // Reads continue.
    assert_eq!(store.load(saga.id).await.unwrap().unwrap().entries.len(), 1);
    sqlx::query("ROLLBACK").execute(&mut stranger).await.unwrap();
    store.append(append(saga.id, 1, 1)).await.unwrap();
    store.begin().await.unwrap().rollback().await.unwrap();
    stranger.close().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_an_error_that_passes_and_loses_nothing() {
    let file = File::new();
    // One connection, because the pragma limits each connection separately.
    let pages = "400";
    let store = SqliteStore::open(file.config().pragma("max_page_count", pages)).await.unwrap();
    let mut written: Vec<SagaId> = Vec::new();
    let error = loop {
        let mut saga = new_saga(WorkerId::new(1));
        saga.beginning.input = vec![7; 20_000];
        match store.create(saga.clone()).await {
            Ok(()) => written.push(saga.id),
            Err(error) => break error,
        }
        assert!(written.len() < 1000, "the disk does not fill");
    };
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("full"), "{error}");
    assert!(written.len() > 10);
    // A few more operations fail.
    let mut saga = new_saga(WorkerId::new(1));
    saga.beginning.input = vec![7; 20_000];
    assert!(store.create(saga.clone()).await.unwrap_err().is_transient());
    for id in &written {
        assert_eq!(store.load(*id).await.unwrap().unwrap().beginning.input.len(), 20_000);
    }
    // There is room again.
    let mut connection = file.connect().await;
    let half = "DELETE FROM buttress_saga_entry WHERE saga <= 10";
    sqlx::query(half).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    store.create(saga.clone()).await.unwrap();
    assert_eq!(store.load(saga.id).await.unwrap().unwrap().status, Status::Running);
    assert_eq!(store.list(Page::first(1000)).await.unwrap().len(), written.len() + 1);
}

/// A statement of the batch fails in the middle. Its operation leaves nothing behind, the other
/// operations are written, and the next batch works.
#[tokio::test]
async fn an_operation_is_written_whole_or_not_at_all() {
    on_sqlite(async |db: crate::db::Sqlite| {
        db.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON buttress_saga_entry \
             WHEN new.step = 666 BEGIN SELECT raise(abort, 'broken'); END",
        )
        .await;
        let store = db.store.clone();
        let held = store.begin().await.unwrap();
        let mut callers = tokio::task::JoinSet::new();
        for n in 0..10u16 {
            let store = store.clone();
            let mut saga = new_saga(WorkerId::new(1));
            saga.entries[0] = Entry::ActionStarted { step: if n == 7 { 666 } else { n } };
            callers.spawn(async move { (n, saga.id, store.create(saga).await) });
        }
        others_go_on().await;
        drop(held);
        for (n, id, outcome) in callers.join_all().await {
            assert_eq!(outcome.is_err(), n == 7, "{outcome:?}");
            assert_eq!(store.load(id).await.unwrap().is_some(), n != 7);
        }
        store.create(new_saga(WorkerId::new(1))).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_is_dropped_lets_others_go_on() {
    on_sqlite(async |db: crate::db::Sqlite| {
        let store = db.store.clone();
        for _ in 0..5 {
            let mut tx = store.begin().await.unwrap();
            let message = NewMessage::new(MessageId::random(&rng()), "k", "x");
            store.write(&mut tx, &message).await.unwrap();
            // While it waits for its turn.
            let mut waiting = Box::pin(store.begin());
            assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
            drop(waiting);
            drop(tx);
        }
        store.create(new_saga(WorkerId::new(1))).await.unwrap();
        assert_eq!(store.backlog().await.unwrap().pending, 0);
    })
    .await;
}

#[tokio::test]
async fn durability_is_as_configured_on_every_connection() {
    let file = File::new();
    for (synchronous, number) in [(Synchronous::Full, 2), (Synchronous::Normal, 1)] {
        let store = SqliteStore::open(file.config().synchronous(synchronous)).await.unwrap();
        let mut own = store.config().connect_options().connect().await.unwrap();
        for (sql, wanted) in [("PRAGMA synchronous", number), ("PRAGMA busy_timeout", 5000)] {
            let value: i64 = sqlx::query_scalar(sql).fetch_one(store.pool()).await.unwrap();
            assert_eq!(value, wanted);
            let value: i64 = sqlx::query_scalar(sql).fetch_one(&mut own).await.unwrap();
            assert_eq!(value, wanted);
        }
        let mode: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut own).await.unwrap();
        assert_eq!(mode, "wal");
    }
}

/// The next process that opens the file sees the committed rows, and the stored time is the
/// clock's.
#[tokio::test]
async fn leases_outlive_the_store() {
    let file = File::new();
    let time = VirtualClock::new();
    let open = async || SqliteStore::open(file.config().clock(time.clock())).await.unwrap();
    let (owner, taker) = (WorkerId::random(&rng()), WorkerId::random(&rng()));
    let store = open().await;
    store.renew_worker(owner, 10 * SECOND).await.unwrap();
    store.create(new_saga(owner)).await.unwrap();
    store.close().await;
    drop(store);
    let store = open().await;
    time.advance(9 * SECOND);
    assert!(take(&store, taker, 9).await.sagas.is_empty());
    time.advance(SECOND);
    assert_eq!(take(&store, taker, 9).await.sagas.len(), 1);
}
