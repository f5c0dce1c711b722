//! The tables of the store, and their migrations.

use std::time::Duration;

use buttress::{Clock, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::connect::SqliteConfig;
use crate::error::failed;
use crate::partitions;
use crate::steps::steps;

steps!("schema_1.sql" "receipts.sql" "lengths.sql" "letters.sql" "events.sql" "history.sql"
       "waits.sql" "signals.sql");

/// The table of the version and of the number of partitions.
const NUMBERS: &str = "CREATE TABLE IF NOT EXISTS buttress_schema \
                       (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT";

impl SqliteConfig {
    /// Returns the DDL that creates the tables in an empty database, for a migration tool.
    ///
    /// A store that finds the tables creates nothing. Run the text in one transaction. It fails if
    /// the tables exist.
    ///
    /// # Errors
    /// Returns `Invalid` for a configuration that a store refuses.
    pub fn ddl(&self) -> Result<String, StoreError> {
        self.check().map_err(|error| {
            StoreError::invalid(format!("creating the DDL: {error}")).with_source(error)
        })?;
        Ok(ddl(self.settings.partitions))
    }
}

/// Returns the statements that [`prepare`] runs in an empty file, as one text.
fn ddl(partitions: Option<u16>) -> String {
    let partitions = partitions.unwrap_or(partitions::DEFAULT);
    let steps = STEPS.join("\n");
    let rows: Vec<String> = (0..partitions).map(|partition| format!("({partition})")).collect();
    format!(
        "{NUMBERS};\n\n{steps}\nINSERT INTO buttress_schema (name, value) \
         VALUES ('version', {VERSION}), ('partitions', {partitions});\n\
         INSERT INTO buttress_outbox_lease (partition) VALUES {};\n",
        rows.join(", ")
    )
}

/// A database with its tables.
pub(super) struct Prepared {
    /// The number of partitions of its outbox.
    pub partitions: u16,
    /// The first connection.
    pub connection: SqliteConnection,
    /// The file according to SQLite; empty if SQLite keeps the database in no file.
    pub file: String,
}

/// Brings the file to [`VERSION`], also if other processes do the same concurrently. Retries for up
/// to `patience`: while another process turns the file to a write-ahead log, SQLite reports
/// immediately that the file is busy.
pub(super) async fn prepare(
    options: &SqliteConnectOptions,
    asked: Option<u16>,
    patience: Duration,
) -> Result<Prepared, StoreError> {
    let clock = Clock::default();
    let deadline = clock.now() + patience;
    loop {
        match try_prepare(options, asked).await {
            Err(error) if error.is_transient() && clock.now() < deadline => {
                clock.sleep(Duration::from_millis(20)).await;
            }
            outcome => return outcome,
        }
    }
}

async fn try_prepare(
    options: &SqliteConnectOptions,
    asked: Option<u16>,
) -> Result<Prepared, StoreError> {
    let opening = |error| failed("opening the store", error);
    let mut connection = options.connect().await.map_err(opening)?;
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(opening)?;
    let partitions = migrate(&mut tx, asked).await?;
    tx.commit().await.map_err(opening)?;
    let file = sqlx::query_scalar("SELECT file FROM pragma_database_list WHERE name = 'main'")
        .fetch_one(&mut connection)
        .await
        .map_err(opening)?;
    Ok(Prepared { partitions, connection, file })
}

async fn migrate(tx: &mut SqliteConnection, asked: Option<u16>) -> Result<u16, StoreError> {
    let migrating = |error| failed("creating the tables of the store", error);
    sqlx::query(NUMBERS).execute(&mut *tx).await.map_err(migrating)?;
    let version = read(tx, "version").await?.unwrap_or(0);
    let missing = usize::try_from(version).ok().and_then(|version| STEPS.get(version..));
    let Some(missing) = missing else {
        return Err(StoreError::corrupt(format!(
            "buttress_schema: version {version}, this release knows up to {VERSION}"
        )));
    };
    for step in missing {
        tx.execute(*step).await.map_err(migrating)?;
    }
    if !missing.is_empty() {
        write(tx, "version", VERSION).await?;
    }
    match read(tx, "partitions").await? {
        Some(stored) => partitions::agree(stored, asked),
        None => {
            let partitions = asked.unwrap_or(partitions::DEFAULT);
            write(tx, "partitions", partitions.into()).await?;
            for partition in 0..partitions {
                sqlx::query("INSERT INTO buttress_outbox_lease (partition) VALUES (?)")
                    .bind(i64::from(partition))
                    .execute(&mut *tx)
                    .await
                    .map_err(migrating)?;
            }
            Ok(partitions)
        }
    }
}

async fn read(tx: &mut SqliteConnection, name: &str) -> Result<Option<i64>, StoreError> {
    sqlx::query_scalar("SELECT value FROM buttress_schema WHERE name = ?")
        .bind(name)
        .fetch_optional(tx)
        .await
        .map_err(|error| failed("reading buttress_schema", error))
}

async fn write(tx: &mut SqliteConnection, name: &str, value: i64) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO buttress_schema (name, value) VALUES (?, ?)")
        .bind(name)
        .bind(value)
        .execute(tx)
        .await
        .map(drop)
        .map_err(|error| failed("writing buttress_schema", error))
}
