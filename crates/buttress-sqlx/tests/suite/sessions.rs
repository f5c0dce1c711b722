//! The settings of sessions on PostgreSQL, and sessions that became read-only.

use buttress::StoreError;
use buttress_durable::outbox::{MessageId, NewMessage, Store as _, Write};
use buttress_durable::saga::{Store as _, WorkerId};
use buttress_sqlx::{PostgresConfig, PostgresStore};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use crate::db::{Postgres, fresh_schema, on_postgres, postgres_url};
use crate::sagas::new_saga;

fn message(id: u128) -> NewMessage {
    NewMessage::new(MessageId::new(id), "k", "x")
}

async fn show(connection: impl sqlx::PgExecutor<'_>, name: &str) -> String {
    let sql = AssertSqlSafe(format!("SHOW {name}"));
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

/// The planner has the settings of the server for the application. Without sequential scans, the
/// application's own queries once took six times as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_planner_is_the_applications() {
    on_postgres("the_planner_is_the_applications", async |db: Postgres| {
        let pool = PgPool::connect(&db.url).await.unwrap();
        let on_users_pool = PostgresConfig::with_pool(pool.clone()).schema(&db.schema);
        let on_users_pool = PostgresStore::open(on_users_pool).await.unwrap();
        for store in [&db.store, &on_users_pool] {
            store.backlog().await.unwrap();
            store.create(new_saga(WorkerId::new(1))).await.unwrap();
            let mut tx = store.begin().await.unwrap();
            for name in ["enable_seqscan", "enable_bitmapscan", "jit"] {
                let wanted = show(&db.pool, name).await;
                assert_eq!(show(&mut *tx, name).await, wanted, "{name}");
                assert_eq!(show(store.pool(), name).await, wanted, "{name}");
            }
            store.write(&mut tx, &message(1)).await.unwrap();
            for name in ["enable_seqscan", "enable_bitmapscan", "jit"] {
                assert_eq!(show(&mut *tx, name).await, show(&db.pool, name).await, "{name}");
            }
            tx.rollback().await.unwrap();
        }
        // No setting stays on the sessions of the application's pool.
        for name in ["statement_timeout", "lock_timeout", "default_transaction_isolation"] {
            assert_eq!(show(&pool, name).await, show(&db.pool, name).await, "{name}");
        }
        pool.close().await;
    })
    .await;
}

/// A database of this test alone.
struct Database {
    admin: PgPool,
    name: String,
    options: PgConnectOptions,
}

impl Database {
    async fn new(url: &str) -> Self {
        let admin = PgPoolOptions::new().max_connections(1).connect(url).await.unwrap();
        let name = fresh_schema();
        let options: PgConnectOptions = url.parse().unwrap();
        let options = options.database(&name);
        let database = Self { admin, name, options };
        database.execute("CREATE DATABASE {d}").await;
        database
    }

    async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.replace("{d}", &self.name));
        sqlx::query(sql).execute(&self.admin).await.unwrap();
    }

    async fn end_sessions(&self) {
        let sql =
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1";
        sqlx::query(sql).bind(&self.name).execute(&self.admin).await.unwrap();
    }
}

async fn written(store: &PostgresStore, id: u128) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    store.write(&mut tx, &message(id)).await?;
    tx.commit().await.map_err(|error| StoreError::transient(error.to_string()))
}

/// Sessions that were opened while the database was read-only, or that a user made read-only, were
/// once lent repeatedly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_became_read_only_is_not_lent_again() {
    let Some(url) = postgres_url("a_session_that_became_read_only").await else { return };
    let database = Database::new(&url).await;
    let config = PostgresConfig::with_options(database.options.clone()).connections(2);
    let store = PostgresStore::open(config).await.unwrap();
    for round in 1..=2u128 {
        database.execute("ALTER DATABASE {d} SET default_transaction_read_only = on").await;
        database.end_sessions().await;
        let (one, two) = (store.begin().await, store.begin().await);
        let mut refused = Vec::new();
        for tx in [one, two] {
            let mut tx = tx.unwrap();
            refused.push(store.write(&mut tx, &message(1)).await.unwrap_err());
        }
        assert!(refused.iter().all(StoreError::is_transient), "{refused:?}");
        database.execute("ALTER DATABASE {d} RESET default_transaction_read_only").await;
        written(&store, 10 * round).await.unwrap();
        written(&store, 10 * round + 1).await.unwrap();

        let mut tx = store.begin().await.unwrap();
        let read_only = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";
        sqlx::query(read_only).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        for n in 2..5 {
            written(&store, 10 * round + n).await.unwrap();
        }
    }
    store.close().await;
    drop(store);
    database.execute("DROP DATABASE {d} WITH (FORCE)").await;
}
