//! Rows as sagas, and as logs.

use buttress_durable::saga::{SagaId, WorkerId};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use crate::log::found::{self, Logs};
use crate::log::{FoundHead, FoundLines, Head, Line, unreadable};
use crate::number::signed;
use crate::postgres::rows::{id, query, uuid};
use crate::postgres::sql::Sql;

pub(super) const HEAD: &str = "number, id, definition, version, codec, epoch, status, length, \
     cancel, deadline, worker";

pub(super) async fn find(
    tx: &mut PgConnection,
    sql: &Sql,
    saga: SagaId,
) -> Result<Option<FoundHead>, sqlx::Error> {
    let sql = sql.text(&format!("SELECT {HEAD} FROM {{s}}buttress_saga WHERE id = $1"));
    let row = query(sql).bind(uuid(saga.get())).fetch_optional(tx).await?;
    Ok(row.map(|row| head(&row).map_err(|error| unreadable(saga, "row", error))))
}

/// Returns a whole log, or why it cannot be read.
pub(super) async fn lines(
    tx: &mut PgConnection,
    sql: &Sql,
    number: i64,
) -> Result<Result<Vec<Line>, String>, sqlx::Error> {
    let logs = logs(tx, sql, &[number]).await?;
    Ok(logs.into_values().next().unwrap_or_else(|| Ok(Vec::new())))
}

/// Returns whole logs by the numbers of their sagas, or why they cannot be read.
pub(super) async fn logs(
    tx: &mut PgConnection,
    sql: &Sql,
    numbers: &[i64],
) -> Result<Logs, sqlx::Error> {
    let sql = sql.text(
        "SELECT position, kind, step, payload, note, saga FROM {s}buttress_saga_entry \
         WHERE saga = ANY ($1) ORDER BY saga, position",
    );
    let rows = query(sql).bind(numbers).fetch_all(tx).await?;
    found::logs(rows.iter().map(|row| Ok((row.try_get(5)?, line(row)))))
}

/// Returns up to `count` lines of a log from `position` on.
pub(super) async fn some_lines(
    connection: &mut PgConnection,
    sql: &Sql,
    head: Option<&FoundHead>,
    position: i64,
    count: usize,
) -> Result<FoundLines, sqlx::Error> {
    let Some(Ok(head)) = head else { return Ok(Ok(Vec::new())) };
    let text = sql.text(
        "SELECT position, kind, step, payload, note FROM {s}buttress_saga_entry \
         WHERE saga = $1 AND position >= $2 ORDER BY position LIMIT $3",
    );
    let rows = query(text)
        .bind(head.number)
        .bind(position)
        .bind(signed(count as u64))
        .fetch_all(connection)
        .await?;
    let lines = rows.iter().map(line).collect::<Result<Vec<Line>, _>>();
    Ok(lines.map_err(|error| unreadable(head.id, "log", error)))
}

/// Returns the id and a name of a saga for people, also for a damaged row. The id is 0 if it cannot
/// be read.
pub(super) fn name(row: &PgRow) -> (SagaId, String) {
    match id(row, 1) {
        Ok(id) => (SagaId::new(id), format!("saga {}", SagaId::new(id))),
        Err(_) => {
            let number: i64 = row.try_get(0).unwrap_or_default();
            (SagaId::new(0), format!("the saga in row {number} of buttress_saga"))
        }
    }
}

pub(super) fn head(row: &PgRow) -> Result<Head, sqlx::Error> {
    Ok(Head {
        number: row.try_get(0)?,
        id: SagaId::new(id(row, 1)?),
        definition: row.try_get(2)?,
        version: row.try_get(3)?,
        codec: row.try_get(4)?,
        epoch: row.try_get(5)?,
        status: row.try_get(6)?,
        length: row.try_get(7)?,
        cancel: row.try_get(8)?,
        deadline: row.try_get(9)?,
        worker: WorkerId::new(id(row, 10)?),
    })
}

fn line(row: &PgRow) -> Result<Line, sqlx::Error> {
    Ok(Line {
        position: row.try_get(0)?,
        kind: row.try_get(1)?,
        step: row.try_get(2)?,
        payload: row.try_get(3)?,
        note: row.try_get(4)?,
    })
}
