//! A store on the application's own pool.

use std::sync::atomic::{AtomicU32, Ordering};

use buttress::idempotency::{self, ClaimId, Claimed, Key, KeyClaim};
use buttress_durable::outbox::{MessageId, NewMessage, RelayId, Renewal, Store as _, Write};
use buttress_durable::saga::{Store as _, WorkerId};
use buttress_sqlx::{PostgresConfig, PostgresStore};
use sqlx::Row;
use sqlx::postgres::{PgPool, PgPoolOptions};

use crate::db::{Db, Postgres, SECOND, fresh_schema, on_postgres, postgres_url};
use crate::sagas::{append, new_saga};

/// Every operation has its settings in its own transaction, also if the sessions of the pool have
/// others. No setting stays on the sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_sets_nothing_on_the_sessions_of_the_pool() {
    on_postgres("a_store_sets_nothing_on_the_sessions", async |db: Postgres| {
        const SETTINGS: &str = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) \
                                FROM pg_settings WHERE source = 'session'";
        let pool = PgPoolOptions::new().max_connections(3).after_connect(|connection, _| {
            Box::pin(async move {
                let sql = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE";
                sqlx::query(sql).execute(&mut *connection).await?;
                sqlx::query("SET lock_timeout = 1234").execute(connection).await.map(drop)
            })
        });
        let pool = pool.connect(&db.url).await.unwrap();
        let settings: String = sqlx::query_scalar(SETTINGS).fetch_one(&pool).await.unwrap();
        let config = PostgresConfig::with_pool(pool.clone()).schema(&db.schema);
        let store = PostgresStore::open(config.clock(db.time().clock())).await.unwrap();

        let saga = new_saga(WorkerId::new(1));
        store.create(saga.clone()).await.unwrap();
        store.append(append(saga.id, 1, 1)).await.unwrap();
        assert_eq!(store.load(saga.id).await.unwrap().unwrap().entries.len(), 2);
        let key = Key::new("k").unwrap();
        let claimed =
            idempotency::Store::claim(&store, KeyClaim::new(&key, ClaimId::new(1)), SECOND).await;
        assert_eq!(claimed.unwrap(), Claimed::Owned);
        let mut tx = store.begin().await.unwrap();
        store.write(&mut tx, &NewMessage::new(MessageId::new(1), "k", "x")).await.unwrap();
        tx.commit().await.unwrap();
        let leases = store
            .lease_partitions(Renewal::new(RelayId::new(1), SECOND, &[]))
            .await
            .unwrap()
            .leases;
        assert_eq!(store.fetch(RelayId::new(1), &leases, 9).await.unwrap().messages.len(), 1);

        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(pool.acquire().await.unwrap());
        }
        for connection in &mut all {
            let found: String =
                sqlx::query_scalar(SETTINGS).fetch_one(&mut **connection).await.unwrap();
            assert_eq!(found, settings);
        }
        drop(all);
        // The application closes its pool.
        store.close().await;
        sqlx::query("SELECT 1").execute(&pool).await.unwrap();
        pool.close().await;
    })
    .await;
}

/// The store's operations would otherwise become part of a transaction that the application left
/// open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_left_in_a_transaction_is_not_used() {
    on_postgres("a_connection_left_in_a_transaction", async |db: Postgres| {
        static CONNECTED: AtomicU32 = AtomicU32::new(0);
        let pool = PgPoolOptions::new().max_connections(1).after_connect(|_, _| {
            CONNECTED.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(()) })
        });
        let pool = pool.connect(&db.url).await.unwrap();
        let config = PostgresConfig::with_pool(pool.clone()).schema(&db.schema);
        let store = PostgresStore::open(config.clock(db.time().clock())).await.unwrap();
        for (round, spoil) in (1..).zip(["SELECT 1", "CREATE TEMP TABLE t ()", "SELECT 1 / 0"]) {
            let mut connection = pool.acquire().await.unwrap();
            sqlx::raw_sql("BEGIN").execute(&mut *connection).await.unwrap();
            let _may_fail = sqlx::raw_sql(spoil).execute(&mut *connection).await;
            drop(connection);
            // Each kind of operation: a single statement, a read, and a batch of the writer.
            let relay = RelayId::new(round);
            store.lease_partitions(Renewal::new(relay, SECOND, &[])).await.unwrap();
            store.release_partitions(relay).await.unwrap();
            let saga = new_saga(WorkerId::new(1));
            store.create(saga.clone()).await.unwrap();
            assert!(db.store.load(saga.id).await.unwrap().is_some(), "it is committed");
            store.load(saga.id).await.unwrap().unwrap();
            assert_eq!(CONNECTED.load(Ordering::Relaxed), u32::try_from(round).unwrap() + 1);
        }
        pool.close().await;
    })
    .await;
}

/// The pool is full of transactions of the application. An operation fails with this reason within
/// its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_on_a_full_pool_is_bounded() {
    on_postgres("an_operation_on_a_full_pool", async |db: Postgres| {
        let pool = PgPoolOptions::new().max_connections(1).connect(&db.url).await.unwrap();
        let config = PostgresConfig::with_pool(pool.clone()).schema(&db.schema);
        let store = PostgresStore::open(config.operation_timeout(2 * SECOND)).await.unwrap();
        let tx = store.begin().await.unwrap();
        for error in [
            store.backlog().await.unwrap_err(),
            store.begin().await.unwrap_err(),
            store.create(new_saga(WorkerId::new(1))).await.unwrap_err(),
        ] {
            assert!(error.is_transient(), "{error}");
        }
        tx.rollback().await.unwrap();
        store.backlog().await.unwrap();
        pool.close().await;
    })
    .await;
}

/// In the default schema, without a configuration.
#[tokio::test]
async fn a_pool_is_all_it_takes() {
    let Some(url) = postgres_url("a_pool_is_all_it_takes").await else { return };
    let database = fresh_schema();
    let admin = PgPool::connect(&url).await.unwrap();
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"));
    sqlx::query(create).execute(&admin).await.unwrap();
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    let pool = PgPool::connect_with(options.database(&database)).await.unwrap();
    let store = PostgresStore::on(pool.clone()).await.unwrap();
    assert_eq!(store.partitions(), 16);
    let row = sqlx::query("SELECT to_regclass('public.buttress_saga') IS NOT NULL");
    assert!(row.fetch_one(store.pool()).await.unwrap().get::<bool, _>(0));
    pool.close().await;
    let drop_it = sqlx::AssertSqlSafe(format!("DROP DATABASE {database} WITH (FORCE)"));
    sqlx::query(drop_it).execute(&admin).await.unwrap();
}
