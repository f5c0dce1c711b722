//! The databases with an outbox, to which users write in separate transactions.

use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use buttress_durable::outbox::{self, Outbox};
use buttress_sqlx::sqlx::postgres::PgConnectOptions;
use buttress_sqlx::sqlx::{self, AssertSqlSafe, Connection, PgConnection, Postgres, Transaction};
use buttress_sqlx::{PostgresConfig, PostgresStore, SqliteConfig, SqliteStore, SqliteTransaction};

use super::folder::Folder;

/// The number of user accounts.
const ACCOUNTS: i64 = 1_000;

/// A database with an outbox, and a table of accounts.
pub trait Base: outbox::Store + outbox::Write<Self::Tx> + Clone {
    type Tx: Send;

    /// Waits for a transaction that may write.
    fn begin_tx(&self) -> impl Future<Output = Self::Tx> + Send;

    /// Reads an account and changes it.
    fn pay(tx: &mut Self::Tx, account: i64) -> impl Future<Output = ()> + Send;

    fn commit(tx: Self::Tx) -> impl Future<Output = ()> + Send;
}

/// Writes each of `messages` in a separate transaction, many concurrently.
pub async fn fill<B: Base>(
    outbox: &Outbox<B>,
    messages: &mut dyn Iterator<Item = (String, Vec<u8>)>,
) {
    const AT_ONCE: usize = 500;
    let mut messages = messages.peekable();
    while messages.peek().is_some() {
        let mut tx = outbox.store().begin_tx().await;
        for (key, payload) in messages.by_ref().take(AT_ONCE) {
            let message = outbox.message(key, payload);
            let _ = outbox.write(&mut tx, message).await.expect("room for a message");
        }
        B::commit(tx).await;
    }
}

const CREATE: &str = "CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL)";

impl Base for SqliteStore {
    type Tx = SqliteTransaction;

    async fn begin_tx(&self) -> SqliteTransaction {
        self.begin().await.expect("its turn comes")
    }

    async fn pay(tx: &mut SqliteTransaction, account: i64) {
        let balance: i64 = sqlx::query_scalar("SELECT balance FROM accounts WHERE id = ?")
            .bind(account % ACCOUNTS)
            .fetch_one(&mut ***tx)
            .await
            .expect("an account");
        sqlx::query("UPDATE accounts SET balance = ? WHERE id = ?")
            .bind(balance + 1)
            .bind(account % ACCOUNTS)
            .execute(&mut ***tx)
            .await
            .expect("it can be changed");
    }

    async fn commit(tx: SqliteTransaction) {
        SqliteTransaction::commit(tx).await.expect("committed");
    }
}

/// A new file, at synchronous FULL.
pub async fn sqlite(folder: &Folder) -> SqliteStore {
    let store = SqliteStore::open(SqliteConfig::new(folder.file("base.db")));
    let store = store.await.expect("a new file");
    let mut tx = store.begin_tx().await;
    sqlx::query(CREATE).execute(&mut **tx).await.expect("a new table");
    for id in 0..ACCOUNTS {
        let insert = sqlx::query("INSERT INTO accounts VALUES (?, 0)").bind(id);
        insert.execute(&mut **tx).await.expect("a new row");
    }
    <SqliteStore as Base>::commit(tx).await;
    store
}

impl Base for PostgresStore {
    type Tx = Transaction<'static, Postgres>;

    async fn begin_tx(&self) -> Self::Tx {
        self.begin().await.expect("a connection is free")
    }

    async fn pay(tx: &mut Self::Tx, account: i64) {
        let balance: i64 =
            sqlx::query_scalar("SELECT balance FROM accounts WHERE id = $1 FOR UPDATE")
                .bind(account % ACCOUNTS)
                .fetch_one(&mut **tx)
                .await
                .expect("an account");
        sqlx::query("UPDATE accounts SET balance = $1 WHERE id = $2")
            .bind(balance + 1)
            .bind(account % ACCOUNTS)
            .execute(&mut **tx)
            .await
            .expect("it can be changed");
    }

    async fn commit(tx: Self::Tx) {
        tx.commit().await.expect("committed");
    }
}

/// A schema on a server. [`drop_schema`](Self::drop_schema) removes it.
#[derive(Debug)]
pub struct Server {
    url: String,
    schema: String,
}

impl Server {
    /// Returns the server that the tests use too, if it is available.
    pub async fn find() -> Option<Self> {
        const PATIENCE: Duration = Duration::from_secs(2);
        let url = std::env::var("BUTTRESS_POSTGRES_URL");
        let url = url.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/test".to_owned());
        let connected = tokio::time::timeout(PATIENCE, PgConnection::connect(&url)).await;
        let schema = format!("buttress_benches_{}", std::process::id());
        connected.ok()?.ok()?.close().await.ok()?;
        Some(Self { url, schema })
    }

    async fn execute(&self, statement: String) {
        let mut connection =
            PgConnection::connect(&self.url).await.expect("the server is available");
        sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.expect("a statement");
        connection.close().await.expect("closed");
    }

    pub async fn drop_schema(&self) {
        self.execute(format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema)).await;
    }

    /// Creates a new schema.
    pub async fn store(&self) -> PostgresStore {
        self.drop_schema().await;
        let options = PgConnectOptions::from_str(&self.url).expect("the URL is valid");
        let options = options.options([("search_path", &self.schema)]);
        let config = PostgresConfig::with_options(options).schema(&*self.schema);
        let store = PostgresStore::open(config).await.expect("a new schema");
        let mut tx = store.begin_tx().await;
        sqlx::query(CREATE).execute(&mut *tx).await.expect("a new table");
        let insert = format!(
            "INSERT INTO accounts SELECT id, 0 FROM generate_series(0, {}) id",
            ACCOUNTS - 1
        );
        sqlx::query(AssertSqlSafe(insert)).execute(&mut *tx).await.expect("new rows");
        <PostgresStore as Base>::commit(tx).await;
        store
    }
}
