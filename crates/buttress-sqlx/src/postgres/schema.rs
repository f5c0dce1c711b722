//! The tables of the store, and their migrations.

use buttress::StoreError;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

use super::connect::PostgresConfig;
use super::lender::Lender;
use super::rows::{query, query_scalar};
use super::sql::Sql;
use crate::error::during;
use crate::partitions;
use crate::steps::steps;

steps!("schema_1.sql" "receipts.sql" "lengths.sql" "letters.sql" "events.sql" "history.sql"
       "waits.sql" "signals.sql" "room.sql");

/// The table of the version and of the number of partitions.
const NUMBERS: &str =
    "CREATE TABLE {s}buttress_schema (name text PRIMARY KEY, value int8 NOT NULL)";

impl PostgresConfig {
    /// Returns the DDL that creates the tables in an empty database, for a role that may create them.
    ///
    /// A store that finds the tables creates nothing, so a role without the right to create can
    /// open it. The guide's page on [deployment](crate::guide::deployment) lists the rights that
    /// such a role needs.
    ///
    /// The text creates the [`schema`](Self::schema), if it does not exist, and the configured
    /// number of [`partitions`](Self::partitions). Run the text in one transaction. It fails if the
    /// tables exist.
    ///
    /// # Errors
    /// Returns `Invalid` for a configuration that a store refuses.
    pub fn ddl(&self) -> Result<String, StoreError> {
        self.check().map_err(|error| {
            StoreError::invalid(format!("creating the DDL: {error}")).with_source(error)
        })?;
        Ok(ddl(&Sql::new(&self.schema, None, false), self.settings.partitions))
    }
}

/// Returns the statements that [`prepare`] runs in an empty database, as one text.
fn ddl(sql: &Sql, partitions: Option<u16>) -> String {
    let partitions = partitions.unwrap_or(partitions::DEFAULT);
    let steps = STEPS.iter().map(|step| sql.render(step)).collect::<Vec<_>>().join("\n");
    format!(
        "CREATE SCHEMA IF NOT EXISTS {};\n{};\n\n{steps}\n{}",
        sql.quoted_schema(),
        sql.render(NUMBERS),
        sql.render(&format!(
            "INSERT INTO {{s}}buttress_schema (name, value) \
             VALUES ('version', {VERSION}), ('partitions', {partitions});\n\
             INSERT INTO {{s}}buttress_outbox_lease (partition) \
             SELECT generate_series(0, {partitions} - 1);\n"
        )),
    )
}

/// Brings the schema to [`VERSION`], also if other processes do the same concurrently. Returns the
/// number of partitions of its outbox.
pub(super) async fn prepare(
    lender: &Lender,
    sql: &Sql,
    asked: Option<u16>,
) -> Result<u16, StoreError> {
    let opening = during("opening the store");
    let mut loan = lender.lend_now().await.map_err(|e| e.context("opening the store"))?;
    let mut tx = loan.begin().await.map_err(opening)?;
    // One process at a time. The next one finds everything there.
    query(sql.text("SELECT pg_advisory_xact_lock($1)"))
        .bind(sql.lock("schema", ""))
        .execute(&mut *tx)
        .await
        .map_err(opening)?;
    check_encoding(&mut tx, sql).await?;
    let partitions = migrate(&mut tx, sql, asked).await?;
    tx.commit().await.map_err(opening)?;
    loan.finish().await?;
    Ok(partitions)
}

/// Refuses a database that cannot hold every text.
async fn check_encoding(tx: &mut PgConnection, sql: &Sql) -> Result<(), StoreError> {
    let encoding: String = query_scalar(sql.text("SELECT current_setting('server_encoding')"))
        .fetch_one(tx)
        .await
        .map_err(during("opening the store"))?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(StoreError::misconfigured(format!(
        "opening the store: the encoding of the database is {encoding}, and the store needs UTF8: create \
         a database WITH ENCODING 'UTF8' TEMPLATE template0"
    )))
}

async fn migrate(tx: &mut PgConnection, sql: &Sql, asked: Option<u16>) -> Result<u16, StoreError> {
    let migrating = during("creating the tables of the store");
    let known: Option<i32> =
        query_scalar(sql.text("SELECT 1 FROM pg_namespace WHERE nspname = $1"))
            .bind(sql.schema())
            .fetch_optional(&mut *tx)
            .await
            .map_err(migrating)?;
    // `IF NOT EXISTS` would need the right to create schemas even if the schema exists.
    if known.is_none() {
        let create = AssertSqlSafe(format!("CREATE SCHEMA {}", sql.quoted_schema()));
        tx.execute(create).await.map_err(migrating)?;
    }
    let known: Option<i32> = query_scalar(
        sql.text("SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'buttress_schema'"),
    )
    .bind(sql.schema())
    .fetch_optional(&mut *tx)
    .await
    .map_err(migrating)?;
    if known.is_none() {
        tx.execute(sql.text(NUMBERS).text()).await.map_err(migrating)?;
    }
    let version = read(tx, sql, "version").await?.unwrap_or(0);
    let missing = usize::try_from(version).ok().and_then(|version| STEPS.get(version..));
    let Some(missing) = missing else {
        return Err(StoreError::corrupt(format!(
            "buttress_schema: version {version}, this release knows up to {VERSION}"
        )));
    };
    for step in missing {
        let step = sql.text(step);
        tx.execute(step.text()).await.map_err(migrating)?;
    }
    if !missing.is_empty() {
        write(tx, sql, "version", VERSION).await?;
    }
    match read(tx, sql, "partitions").await? {
        Some(stored) => partitions::agree(stored, asked),
        None => {
            let partitions = asked.unwrap_or(partitions::DEFAULT);
            write(tx, sql, "partitions", partitions.into()).await?;
            let insert = sql.text(
                "INSERT INTO {s}buttress_outbox_lease (partition) SELECT generate_series(0, $1 - 1)",
            );
            query(insert).bind(i64::from(partitions)).execute(tx).await.map_err(migrating)?;
            Ok(partitions)
        }
    }
}

async fn read(tx: &mut PgConnection, sql: &Sql, name: &str) -> Result<Option<i64>, StoreError> {
    query_scalar(sql.text("SELECT value FROM {s}buttress_schema WHERE name = $1"))
        .bind(name)
        .fetch_optional(tx)
        .await
        .map_err(during("reading buttress_schema"))
}

async fn write(tx: &mut PgConnection, sql: &Sql, name: &str, value: i64) -> Result<(), StoreError> {
    let upsert = sql.text(
        "INSERT INTO {s}buttress_schema (name, value) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    );
    query(upsert)
        .bind(name)
        .bind(value)
        .execute(tx)
        .await
        .map(drop)
        .map_err(during("writing buttress_schema"))
}
