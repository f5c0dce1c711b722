//! A database for each test, under a clock that the test moves.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use buttress::{Rng, StoreError, VirtualClock, idempotency};
use buttress_durable::consume::DeadLetters;
use buttress_durable::outbox::{Inbox, NewMessage, Write};
use buttress_durable::{event_store, outbox, saga};
use buttress_sqlx::{SqliteConfig, SqliteStore, SqliteTransaction};
use sqlx::AssertSqlSafe;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const NANO: Duration = Duration::from_nanos(1);
/// The nanoseconds of an hour, by which tests set clocks back and forward.
pub(crate) const HOUR: i64 = 3_600_000_000_000;

/// The operations of a test on both databases.
pub(crate) trait Db: Clone + Send + Sync + 'static {
    type Store: saga::Store<Vec<u8>>
        + idempotency::Store<Vec<u8>>
        + idempotency::CompleteIn<Self::Tx, Vec<u8>>
        + outbox::Store
        + Write<Self::Tx>
        + Inbox<Self::Tx>
        + saga::Barrier<Self::Tx>
        + saga::CreateIn<Self::Tx, Vec<u8>>
        + saga::SignalIn<Self::Tx, Vec<u8>>
        + DeadLetters
        + event_store::Store
        + event_store::Append<Self::Tx>
        + event_store::Checkpoint<Self::Tx>
        + Clone;
    type Tx: Send;

    fn store(&self) -> &Self::Store;
    fn time(&self) -> &VirtualClock;
    /// Opens another store on the same tables, like another process.
    fn another(&self) -> impl Future<Output = Self::Store> + Send;
    /// Opens another store that keeps up to this many results.
    fn keeping(&self, results: u64) -> impl Future<Output = Self::Store> + Send;
    fn begin(&self) -> impl Future<Output = Self::Tx> + Send;
    fn commit(&self, tx: Self::Tx) -> impl Future<Output = ()> + Send;
    fn rollback(&self, tx: Self::Tx) -> impl Future<Output = ()> + Send;
    /// Executes a statement without the store. Tables are written `{s}buttress_...`.
    fn execute(&self, sql: &str) -> impl Future<Output = u64> + Send;

    /// Returns an identifier as SQL.
    fn id_literal(id: u128) -> String;
    /// Inserts this many receipts without a time.
    fn many_receipts(count: u32) -> String;
    /// Returns statements that make the database refuse rows of a table when `condition` is true.
    fn refuse(table: &str, operation: &str, condition: &str) -> Vec<String>;
    /// Returns the number of rows of a table.
    fn count(&self, table: &str) -> impl Future<Output = i64> + Send;

    /// Writes messages in a separate transaction.
    fn write(&self, messages: Vec<NewMessage>) -> impl Future<Output = ()> + Send {
        async move {
            let mut tx = self.begin().await;
            for message in &messages {
                self.store().write(&mut tx, message).await.unwrap();
            }
            self.commit(tx).await;
        }
    }
}

pub(crate) fn rng() -> Rng {
    Rng::default()
}

#[derive(Clone)]
pub(crate) struct Sqlite {
    pub path: PathBuf,
    pub store: SqliteStore,
    time: VirtualClock,
}

/// Returns a file name that no other test has.
pub(crate) fn fresh_path() -> PathBuf {
    std::env::temp_dir().join(format!("buttress-{:016x}.db", rng().next_u64()))
}

pub(crate) fn remove(path: &std::path::Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}

impl Sqlite {
    pub(crate) async fn fresh() -> Self {
        let (path, time) = (fresh_path(), VirtualClock::new());
        let store = SqliteStore::open(config(&path, &time)).await.unwrap();
        Self { path, store, time }
    }
}

fn config(path: &std::path::Path, time: &VirtualClock) -> SqliteConfig {
    SqliteConfig::new(path).clock(time.clock())
}

impl Db for Sqlite {
    type Store = SqliteStore;
    type Tx = SqliteTransaction;

    fn store(&self) -> &SqliteStore {
        &self.store
    }

    fn time(&self) -> &VirtualClock {
        &self.time
    }

    async fn another(&self) -> SqliteStore {
        SqliteStore::open(config(&self.path, &self.time)).await.unwrap()
    }

    async fn keeping(&self, results: u64) -> SqliteStore {
        SqliteStore::open(config(&self.path, &self.time).results(results)).await.unwrap()
    }

    async fn begin(&self) -> SqliteTransaction {
        self.store.begin().await.unwrap()
    }

    async fn commit(&self, tx: SqliteTransaction) {
        tx.commit().await.unwrap();
    }

    async fn rollback(&self, tx: SqliteTransaction) {
        tx.rollback().await.unwrap();
    }

    fn id_literal(id: u128) -> String {
        format!("X'{id:032x}'")
    }

    fn many_receipts(count: u32) -> String {
        format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count}) \
             INSERT INTO buttress_inbox (consumer, message) SELECT 'c' || n, zeroblob(16) FROM n"
        )
    }

    fn refuse(table: &str, operation: &str, condition: &str) -> Vec<String> {
        vec![format!(
            "CREATE TRIGGER refuse BEFORE {operation} ON {table} WHEN {condition} \
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )]
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(sql).fetch_one(self.store.pool()).await.unwrap()
    }

    async fn execute(&self, sql: &str) -> u64 {
        let mut tx = self.begin().await;
        let sql = AssertSqlSafe(sql.replace("{s}", ""));
        let done = sqlx::query(sql).execute(&mut **tx).await.unwrap();
        self.commit(tx).await;
        done.rows_affected()
    }
}

/// Runs `count` operations concurrently, each on its own task. Returns their results.
pub(crate) async fn concurrently<T, F>(count: usize, operation: impl Fn() -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        tasks.spawn(operation());
    }
    tasks.join_all().await.into_iter().map(Result::unwrap).collect()
}

/// Runs `scenario` on a new file.
pub(crate) async fn on_sqlite<F: Future<Output = ()> + Send + 'static>(
    scenario: impl FnOnce(Sqlite) -> F,
) {
    let db = Sqlite::fresh().await;
    let path = db.path.clone();
    let outcome = tokio::spawn(scenario(db)).await;
    remove(&path);
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

#[cfg(feature = "postgres")]
pub(crate) use with_postgres::*;

#[cfg(feature = "postgres")]
mod with_postgres {
    use super::*;
    use buttress_sqlx::{PostgresConfig, PostgresStore};
    use sqlx::postgres::PgPoolOptions;
    use sqlx::{PgPool, Postgres as Pg, Transaction};

    pub(crate) use crate::server::{drop_schema, fresh_schema, postgres_url};

    #[derive(Clone)]
    pub(crate) struct Postgres {
        pub store: PostgresStore,
        pub schema: String,
        pub url: String,
        /// A pool of the user's, beside the store.
        pub pool: PgPool,
        time: VirtualClock,
    }

    impl Postgres {
        async fn fresh(url: String) -> Self {
            let (schema, time) = (fresh_schema(), VirtualClock::new());
            let config = PostgresConfig::new(&url).schema(&schema).clock(time.clock());
            let store = PostgresStore::open(config.connections(4)).await.unwrap();
            let pool = PgPoolOptions::new().max_connections(8).connect_lazy(&url).unwrap();
            Self { store, schema, url, pool, time }
        }

        pub(crate) fn config(&self) -> PostgresConfig {
            let config = PostgresConfig::new(&self.url).schema(&self.schema);
            config.clock(self.time.clock()).connections(4)
        }

        pub(crate) fn sql(&self, sql: &str) -> String {
            sql.replace("{s}", &format!("\"{}\".", self.schema))
        }
    }

    impl Db for Postgres {
        type Store = PostgresStore;
        type Tx = Transaction<'static, Pg>;

        fn store(&self) -> &PostgresStore {
            &self.store
        }

        fn time(&self) -> &VirtualClock {
            &self.time
        }

        async fn another(&self) -> PostgresStore {
            PostgresStore::open(self.config()).await.unwrap()
        }

        async fn keeping(&self, results: u64) -> PostgresStore {
            PostgresStore::open(self.config().results(results)).await.unwrap()
        }

        async fn begin(&self) -> Self::Tx {
            self.pool.begin().await.unwrap()
        }

        async fn commit(&self, tx: Self::Tx) {
            tx.commit().await.unwrap();
        }

        async fn rollback(&self, tx: Self::Tx) {
            tx.rollback().await.unwrap();
        }

        fn id_literal(id: u128) -> String {
            format!("'{id:032x}'::uuid")
        }

        fn many_receipts(count: u32) -> String {
            format!(
                "INSERT INTO {{s}}buttress_inbox (consumer, message) \
                 SELECT 'c' || n, '00000000000000000000000000000000'::uuid \
                 FROM generate_series(1, {count}) AS n"
            )
        }

        fn refuse(table: &str, operation: &str, condition: &str) -> Vec<String> {
            vec![
                format!(
                    "CREATE FUNCTION {{s}}refuse() RETURNS trigger LANGUAGE plpgsql AS \
                     $$ BEGIN IF {condition} THEN RAISE EXCEPTION 'refused'; END IF; RETURN NEW; END $$"
                ),
                format!(
                    "CREATE TRIGGER refuse BEFORE {operation} ON {{s}}{table} FOR EACH ROW \
                     EXECUTE FUNCTION {{s}}refuse()"
                ),
            ]
        }

        async fn count(&self, table: &str) -> i64 {
            let sql = self.sql(&format!("SELECT count(*) FROM {{s}}{table}"));
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await.unwrap()
        }

        async fn execute(&self, sql: &str) -> u64 {
            let sql = AssertSqlSafe(self.sql(sql));
            sqlx::query(sql).execute(&self.pool).await.unwrap().rows_affected()
        }
    }

    /// Runs `scenario` on a new schema, and drops the schema.
    pub(crate) async fn on_postgres<F: Future<Output = ()> + Send + 'static>(
        test: &str,
        scenario: impl FnOnce(Postgres) -> F,
    ) {
        let Some(url) = postgres_url(test).await else { return };
        let db = Postgres::fresh(url).await;
        let (store, pool, schema) = (db.store.clone(), db.pool.clone(), db.schema.clone());
        let outcome = tokio::spawn(scenario(db)).await;
        store.close().await;
        drop_schema(&pool, &schema).await;
        if let Err(error) = outcome {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Makes tests on each database from the scenarios of the surrounding module.
macro_rules! on_each_database {
    ($($name:ident)*) => {
        mod on_sqlite {$(
            #[tokio::test]
            async fn $name() {
                crate::db::on_sqlite(super::$name).await;
            }
        )*}
        #[cfg(feature = "postgres")]
        mod on_postgres {$(
            #[tokio::test]
            async fn $name() {
                crate::db::on_postgres(stringify!($name), super::$name).await;
            }
        )*}
    };
}
pub(crate) use on_each_database;
