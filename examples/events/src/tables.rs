//! The tables of shop, billing and shipping, in the database of events, outbox and inbox.

use std::path::Path;

use buttress_sqlx::{SqliteConfig, SqliteStore, Synchronous};
use tower::BoxError;

const TABLES: [&str; 4] = [
    "CREATE TABLE placed (number INTEGER PRIMARY KEY, customer INTEGER, cents INTEGER)",
    // Without a unique order number: a doubled effect is two rows.
    "CREATE TABLE invoice (number INTEGER, customer INTEGER, cents INTEGER, replays INTEGER)",
    "CREATE TABLE shipment (number INTEGER, customer INTEGER, cents INTEGER, replays INTEGER)",
    "CREATE TABLE repeated (number INTEGER)",
];

/// Opens the store. A power loss, against which `Full` protects, is not part of the demonstration.
pub(crate) async fn open(file: &Path) -> Result<SqliteStore, BoxError> {
    Ok(SqliteStore::open(SqliteConfig::new(file).synchronous(Synchronous::Normal)).await?)
}

pub(crate) async fn create(store: &SqliteStore) -> Result<(), BoxError> {
    let mut tx = store.begin().await?;
    for table in TABLES {
        sqlx::query(table).execute(&mut **tx).await?;
    }
    tx.commit().await?;
    crate::list::create(store).await
}
