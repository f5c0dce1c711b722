//! Rows as sagas, and as logs.

use buttress::StoreError;
use buttress_durable::saga::SagaId;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use crate::error::failed;
use crate::number::signed;
use crate::saga::found::{self, Logs};
use crate::saga::{FoundHead, FoundLines, HEAD, LINE, Line, head, unreadable};
use crate::sqlite::rows::bytes_of_id;

pub(super) async fn find(
    tx: &mut SqliteConnection,
    saga: SagaId,
) -> sqlx::Result<Option<FoundHead>> {
    let sql = AssertSqlSafe(format!("SELECT {HEAD} FROM buttress_saga WHERE id = ?"));
    let row = sqlx::query(sql).bind(bytes_of_id(saga.get())).fetch_optional(tx).await?;
    Ok(row.map(|row| head(&row).map_err(|error| unreadable(saga, "row", error))))
}

/// Returns a whole log, or why it cannot be read.
pub(super) async fn lines(
    tx: &mut SqliteConnection,
    number: i64,
) -> Result<Result<Vec<Line>, String>, StoreError> {
    let logs = logs(tx, &[number]).await.map_err(|error| failed("reading a log", error))?;
    Ok(logs.into_values().next().unwrap_or_else(|| Ok(Vec::new())))
}

/// Returns whole logs by the numbers of their sagas, or why they cannot be read.
pub(super) async fn logs(tx: &mut SqliteConnection, numbers: &[i64]) -> sqlx::Result<Logs> {
    let sql = AssertSqlSafe(format!(
        "SELECT {LINE} FROM buttress_saga_entry \
         WHERE saga IN (SELECT value FROM json_each(?)) ORDER BY saga, position"
    ));
    let rows = sqlx::query(sql).bind(json(numbers)).fetch_all(tx).await?;
    found::logs(&rows)
}

/// Returns up to `count` entries of a log, starting at `position`.
pub(super) async fn some_lines(
    tx: &mut SqliteConnection,
    head: Option<&FoundHead>,
    position: i64,
    count: usize,
) -> sqlx::Result<FoundLines> {
    let Some(Ok(head)) = head else { return Ok(Ok(Vec::new())) };
    let sql = AssertSqlSafe(format!(
        "SELECT {LINE} FROM buttress_saga_entry \
         WHERE saga = ? AND position >= ? ORDER BY position LIMIT ?"
    ));
    let query = sqlx::query(sql).bind(head.number).bind(position).bind(signed(count as u64));
    let rows = query.fetch_all(tx).await?;
    Ok(found::lines(head, &rows))
}

pub(super) fn json(numbers: &[i64]) -> String {
    format!("{numbers:?}")
}
