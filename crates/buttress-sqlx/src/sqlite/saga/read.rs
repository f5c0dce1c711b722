//! Rows as sagas, and as logs.

use buttress::StoreError;
use buttress_durable::saga::{SagaId, WorkerId};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::error::failed;
use crate::log::found::{self, Logs};
use crate::log::{FoundHead, FoundLines, Head, Line, unreadable};
use crate::number::signed;
use crate::sqlite::rows::{bytes_of_id, id};

pub(super) const HEAD: &str =
    "number, id, definition, version, codec, epoch, status, length, cancel, deadline, worker";

pub(super) async fn find(
    tx: &mut SqliteConnection,
    saga: SagaId,
) -> Result<Option<FoundHead>, sqlx::Error> {
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
pub(super) async fn logs(tx: &mut SqliteConnection, numbers: &[i64]) -> Result<Logs, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT position, kind, step, payload, note, saga FROM buttress_saga_entry \
         WHERE saga IN (SELECT value FROM json_each(?)) ORDER BY saga, position",
    )
    .bind(json(numbers))
    .fetch_all(tx)
    .await?;
    found::logs(rows.iter().map(|row| Ok((row.try_get(5)?, line(row)))))
}

/// Returns up to `count` entries of a log, starting at `position`.
pub(super) async fn some_lines(
    tx: &mut SqliteConnection,
    head: Option<&FoundHead>,
    position: i64,
    count: usize,
) -> Result<FoundLines, sqlx::Error> {
    let Some(Ok(head)) = head else { return Ok(Ok(Vec::new())) };
    let rows = sqlx::query(
        "SELECT position, kind, step, payload, note FROM buttress_saga_entry \
         WHERE saga = ? AND position >= ? ORDER BY position LIMIT ?",
    )
    .bind(head.number)
    .bind(position)
    .bind(signed(count as u64))
    .fetch_all(tx)
    .await?;
    let lines = rows.iter().map(line).collect::<Result<Vec<Line>, _>>();
    Ok(lines.map_err(|error| unreadable(head.id, "log", error)))
}

pub(super) fn head(row: &SqliteRow) -> Result<Head, sqlx::Error> {
    Ok(Head {
        number: row.try_get(0)?,
        id: SagaId::new(id(row, 1)?),
        definition: row.try_get(2)?,
        version: row.try_get(3)?,
        codec: row.try_get(4)?,
        epoch: row.try_get(5)?,
        status: row.try_get(6)?,
        length: row.try_get(7)?,
        cancel: row.try_get::<i64, _>(8)? != 0,
        deadline: row.try_get(9)?,
        worker: WorkerId::new(id(row, 10)?),
    })
}

fn line(row: &SqliteRow) -> Result<Line, sqlx::Error> {
    Ok(Line {
        position: row.try_get(0)?,
        kind: row.try_get(1)?,
        step: row.try_get(2)?,
        payload: row.try_get(3)?,
        note: row.try_get(4)?,
    })
}

/// Returns the id and a name of a saga for people, also for a damaged row. The id is 0 if it cannot
/// be read.
pub(super) fn name(row: &SqliteRow) -> (SagaId, String) {
    match id(row, 1) {
        Ok(id) => (SagaId::new(id), format!("saga {}", SagaId::new(id))),
        Err(_) => {
            let number: i64 = row.try_get(0).unwrap_or_default();
            (SagaId::new(0), format!("the saga in row {number} of buttress_saga"))
        }
    }
}

pub(super) fn json(numbers: &[i64]) -> String {
    format!("{numbers:?}")
}
