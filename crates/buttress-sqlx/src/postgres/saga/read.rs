//! Rows as sagas, and as logs.

use buttress_durable::saga::SagaId;
use sqlx::postgres::PgConnection;

use crate::number::signed;
use crate::postgres::rows::{query, uuid};
use crate::postgres::sql::Sql;
use crate::saga::found::{self, Logs};
use crate::saga::{FoundHead, FoundLines, HEAD, LINE, Line, head, unreadable};

pub(super) async fn find(
    tx: &mut PgConnection,
    sql: &Sql,
    saga: SagaId,
) -> sqlx::Result<Option<FoundHead>> {
    let sql = sql.text(&format!("SELECT {HEAD} FROM {{s}}buttress_saga WHERE id = $1"));
    let row = query(sql).bind(uuid(saga.get())).fetch_optional(tx).await?;
    Ok(row.map(|row| head(&row).map_err(|error| unreadable(saga, "row", error))))
}

/// Returns a whole log, or why it cannot be read.
pub(super) async fn lines(
    tx: &mut PgConnection,
    sql: &Sql,
    number: i64,
) -> sqlx::Result<Result<Vec<Line>, String>> {
    let logs = logs(tx, sql, &[number]).await?;
    Ok(logs.into_values().next().unwrap_or_else(|| Ok(Vec::new())))
}

/// Returns whole logs by the numbers of their sagas, or why they cannot be read.
pub(super) async fn logs(tx: &mut PgConnection, sql: &Sql, numbers: &[i64]) -> sqlx::Result<Logs> {
    let sql = sql.text(&format!(
        "SELECT {LINE} FROM {{s}}buttress_saga_entry \
         WHERE saga = ANY ($1) ORDER BY saga, position"
    ));
    let rows = query(sql).bind(numbers).fetch_all(tx).await?;
    found::logs(&rows)
}

/// Returns up to `count` lines of a log from `position` on.
pub(super) async fn some_lines(
    connection: &mut PgConnection,
    sql: &Sql,
    head: Option<&FoundHead>,
    position: i64,
    count: usize,
) -> sqlx::Result<FoundLines> {
    let Some(Ok(head)) = head else { return Ok(Ok(Vec::new())) };
    let text = sql.text(&format!(
        "SELECT {LINE} FROM {{s}}buttress_saga_entry \
         WHERE saga = $1 AND position >= $2 ORDER BY position LIMIT $3"
    ));
    let query = query(text).bind(head.number).bind(position).bind(signed(count as u64));
    let rows = query.fetch_all(connection).await?;
    Ok(found::lines(head, &rows))
}
