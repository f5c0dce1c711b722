//! The only module that knows the type of the database. All other code is generic over
//! [`Database`].
//!
//! A program with one database needs no such module: it uses `SqliteStore` and `SqliteTransaction`,
//! or `PostgresStore` and `sqlx::Transaction`, in place of `D` and `D::Tx`.

use std::future::Future;
use std::path::PathBuf;
use std::str::FromStr;

use buttress::StoreError;
use buttress_durable::{outbox, saga};
use buttress_sqlx::{
    PostgresConfig, PostgresStore, SqliteConfig, SqliteStore, SqliteTransaction, Synchronous,
};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, ColumnIndex, Connection, Decode, Postgres, Row, Transaction, Type};
use tower::BoxError;

/// The place of a database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Place {
    /// A folder with one database file.
    Sqlite { folder: PathBuf },
    /// A separate schema.
    Postgres { url: String, schema: String },
}

impl Place {
    /// Returns a new file, in a folder whose name begins with `name`.
    pub(crate) fn file(name: &str) -> Result<Self, BoxError> {
        let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self::Sqlite { folder })
    }

    /// Returns a new schema of the database at `url`, whose name begins with `name`.
    pub(crate) fn schema(url: impl Into<String>, name: &str) -> Self {
        Self::Postgres { url: url.into(), schema: format!("{name}_{}", std::process::id()) }
    }

    /// Removes all data.
    pub(crate) async fn remove(&self) -> Result<(), BoxError> {
        match self {
            Self::Sqlite { folder } => std::fs::remove_dir_all(folder)?,
            Self::Postgres { url, schema } => {
                let mut connection = PgConnection::connect(url).await?;
                let drop = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
                sqlx::query(AssertSqlSafe(drop)).execute(&mut connection).await?;
                connection.close().await?;
            }
        }
        Ok(())
    }
}

/// A store of `buttress-sqlx`, and transactions on its database.
pub(crate) trait Database:
    Clone
    + saga::Store<Vec<u8>>
    + outbox::Store
    + outbox::Write<<Self as Database>::Tx>
    + outbox::Inbox<<Self as Database>::Tx>
    + saga::Barrier<<Self as Database>::Tx>
{
    type Tx: Send + 'static;

    /// Opens the store, and creates missing tables.
    fn open_at(place: &Place) -> impl Future<Output = Result<Self, BoxError>>;

    fn begin(&self) -> impl Future<Output = Result<Self::Tx, StoreError>> + Send;

    fn commit(tx: Self::Tx) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Runs one statement. The tables of these programs hold only integers, so that one statement
    /// and one way to read the rows work for both databases.
    fn query(
        tx: &mut Self::Tx,
        sql: &'static str,
        numbers: &[i64],
    ) -> impl Future<Output = Result<Vec<Vec<i64>>, sqlx::Error>> + Send;

    /// Runs one statement in a separate transaction.
    fn ask(
        &self,
        sql: &'static str,
        numbers: &[i64],
    ) -> impl Future<Output = Result<Vec<Vec<i64>>, BoxError>> + Send {
        async move {
            let mut tx = self.begin().await?;
            let rows = Self::query(&mut tx, sql, numbers).await?;
            Self::commit(tx).await?;
            Ok(rows)
        }
    }

    /// Returns the only number of the only row, for sums and counts.
    fn count(
        &self,
        sql: &'static str,
        numbers: &[i64],
    ) -> impl Future<Output = Result<i64, BoxError>> + Send {
        async move {
            let rows = self.ask(sql, numbers).await?;
            Ok(rows.first().and_then(|row| row.first()).copied().unwrap_or(0))
        }
    }
}

impl Database for SqliteStore {
    type Tx = SqliteTransaction;

    /// After a SIGKILL the operating system still has every write, so `Synchronous::Normal` is as
    /// safe here as the default `Full`, and faster. Only a loss of power makes a difference. Keep
    /// `Full` where money moves.
    async fn open_at(place: &Place) -> Result<Self, BoxError> {
        let Place::Sqlite { folder } = place else { return Err("not a place for SQLite".into()) };
        let config = SqliteConfig::new(folder.join("store.db")).synchronous(Synchronous::Normal);
        Ok(Self::open(config).await?)
    }

    async fn begin(&self) -> Result<SqliteTransaction, StoreError> {
        Self::begin(self).await
    }

    async fn commit(tx: SqliteTransaction) -> Result<(), StoreError> {
        tx.commit().await
    }

    async fn query(
        tx: &mut SqliteTransaction,
        sql: &'static str,
        numbers: &[i64],
    ) -> Result<Vec<Vec<i64>>, sqlx::Error> {
        let connection: &mut SqliteConnection = tx;
        let query = numbers.iter().fold(sqlx::query(sql), |query, number| query.bind(*number));
        let rows = query.fetch_all(connection).await?;
        rows.iter().map(whole_numbers).collect()
    }
}

impl Database for PostgresStore {
    type Tx = Transaction<'static, Postgres>;

    async fn open_at(place: &Place) -> Result<Self, BoxError> {
        let Place::Postgres { url, schema } = place else {
            return Err("not a place for PostgreSQL".into());
        };
        // The tables of the program are in the schema of the store.
        let options = PgConnectOptions::from_str(url)?.options([("search_path", schema)]);
        Ok(Self::open(PostgresConfig::with_options(options).schema(schema)).await?)
    }

    async fn begin(&self) -> Result<Self::Tx, StoreError> {
        Self::begin(self).await
    }

    async fn commit(tx: Self::Tx) -> Result<(), StoreError> {
        let unknown = |error| StoreError::transient("committing").with_source(error);
        tx.commit().await.map_err(unknown)
    }

    async fn query(
        tx: &mut Self::Tx,
        sql: &'static str,
        numbers: &[i64],
    ) -> Result<Vec<Vec<i64>>, sqlx::Error> {
        let connection: &mut PgConnection = tx;
        let query = numbers.iter().fold(sqlx::query(sql), |query, number| query.bind(*number));
        let rows = query.fetch_all(connection).await?;
        rows.iter().map(whole_numbers).collect()
    }
}

fn whole_numbers<R: Row>(row: &R) -> Result<Vec<i64>, sqlx::Error>
where
    usize: ColumnIndex<R>,
    i64: for<'r> Decode<'r, R::Database> + Type<R::Database>,
{
    (0..row.len()).map(|column| row.try_get(column)).collect()
}
