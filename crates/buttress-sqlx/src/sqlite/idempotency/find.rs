//! Reading claims and results.

use std::collections::HashMap;

use buttress::idempotency::Key;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::idempotency::{FOUND, FoundRow, found, unreadable};
use crate::sqlite::pack::Pack;

/// Finds the row of one key.
pub(super) async fn find(
    tx: &mut SqliteConnection,
    key: &Key,
    now: i64,
) -> sqlx::Result<Option<FoundRow>> {
    let sql = AssertSqlSafe(format!("SELECT {FOUND} FROM buttress_idempotency WHERE key = ?"));
    let row = sqlx::query(sql).bind(key.as_str()).fetch_optional(tx).await?;
    Ok(row.map(|row| read_row(&row, key.as_str(), now)))
}

/// Finds the rows of some keys.
pub(super) async fn find_all<'k>(
    tx: &mut SqliteConnection,
    keys: impl Iterator<Item = &'k Key>,
    now: i64,
) -> sqlx::Result<HashMap<String, FoundRow>> {
    let mut pack = Pack::new();
    for key in keys {
        pack.row().bytes(key.as_str().as_bytes());
    }
    if pack.is_empty() {
        return Ok(HashMap::new());
    }
    let pack = pack.end();
    let sql = AssertSqlSafe(format!(
        "SELECT {FOUND} FROM buttress_idempotency WHERE key IN \
         (SELECT CAST(substr(?2, value ->> 0, value ->> 1) AS TEXT) FROM json_each(?1))"
    ));
    let rows = sqlx::query(sql).bind(pack.json).bind(pack.blob).fetch_all(tx).await?;
    let rows = rows.iter().map(|row| {
        let key: String = row.try_get(0)?;
        let row = read_row(row, &key, now);
        Ok((key, row))
    });
    rows.collect()
}

/// Reads a row. A damaged row is an error of its key alone.
fn read_row(row: &SqliteRow, key: &str, now: i64) -> FoundRow {
    found(row, now).map_err(|error| unreadable(key, error))
}
