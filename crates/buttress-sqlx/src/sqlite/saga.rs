//! Sagas on SQLite.

use std::collections::HashMap;
use std::time::Duration;

use buttress::StoreError;
use buttress_durable::saga::{
    Append, Appended, NewSaga, Record, SagaId, Status, Store, Summary, TakenOver, WorkerId,
};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::SqliteStore;
use super::pack::Pack;
use super::rows::{bytes_of_id, id};
use super::writer::WriteOp;
use crate::error::failed;
use crate::log::{Head, Line, LogOp, prepare_append, prepare_create, signed};
use crate::time::before;

mod append;

pub(super) use append::write;

const HEAD: &str =
    "number, id, definition, version, codec, epoch, status, length, cancel, deadline, worker";

/// How many sagas one transaction of a purge removes, so that others need not wait long for theirs.
const PURGED_AT_ONCE: usize = 200;

impl Store<Vec<u8>> for SqliteStore {
    async fn renew(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        self.submit("renewing a worker", (worker, lease), |job| WriteOp::Log(LogOp::Renew(job)))
            .await
    }

    async fn retire(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.bounded("retiring a worker", async {
            let mut tx = self.begin().await?;
            sqlx::query("DELETE FROM buttress_saga_worker WHERE worker = ?")
                .bind(bytes_of_id(worker.get()))
                .execute(&mut **tx)
                .await
                .map_err(|error| failed("retiring a worker", error))?;
            tx.commit().await
        })
        .await
    }

    async fn create(&self, mut saga: NewSaga<Vec<u8>>) -> Result<(), StoreError> {
        prepare_create(&mut saga)?;
        self.submit("creating a saga", saga, |job| WriteOp::Log(LogOp::Create(job))).await
    }

    async fn append(&self, mut append: Append<Vec<u8>>) -> Result<Appended, StoreError> {
        prepare_append(&mut append)?;
        self.submit("appending to a saga", append, |job| WriteOp::Log(LogOp::Append(job))).await
    }

    async fn take_over(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<TakenOver<Vec<u8>>, StoreError> {
        let what = "taking sagas over";
        let pass = (worker, definition.to_owned(), version);
        let begin_after = self.inner.passes.position(&pass);
        self.bounded(what, async {
            let mut tx = self.begin().await?;
            let now = self.now();
            let sql = AssertSqlSafe(format!(
                "WITH RECURSIVE workers(worker) AS ( \
                     SELECT min(worker) FROM buttress_saga \
                     WHERE definition = ?1 AND version = ?2 AND status IN (1, 2) \
                     UNION ALL \
                     SELECT (SELECT min(worker) FROM buttress_saga \
                             WHERE definition = ?1 AND version = ?2 AND status IN (1, 2) \
                             AND worker > workers.worker) \
                     FROM workers WHERE workers.worker IS NOT NULL) \
                 SELECT {HEAD} FROM buttress_saga INDEXED BY buttress_saga_working \
                 WHERE definition = ?1 AND version = ?2 AND status IN (1, 2) AND number > ?3 \
                 AND worker IN (SELECT worker FROM workers WHERE worker IS NOT NULL EXCEPT \
                                SELECT worker FROM buttress_saga_worker WHERE until > ?4) \
                 ORDER BY number LIMIT ?5"
            ));
            let rows = sqlx::query(sql)
                .bind(definition)
                .bind(i64::from(version))
                .bind(begin_after)
                .bind(now)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&mut **tx)
                .await
                .map_err(|error| failed(what, error))?;
            let (mut heads, mut last) = (Vec::with_capacity(rows.len()), begin_after);
            let mut taken = TakenOver { sagas: Vec::new(), corrupt: Vec::new() };
            for row in &rows {
                last = row.try_get(0).map_err(|error| failed(what, error))?;
                match head(row) {
                    Ok(head) => heads.push(head),
                    Err(error) => {
                        let id = SagaId::new(id(row, 1).unwrap_or_default());
                        taken.corrupt.push((id, format!("saga {id}: {error}")));
                    }
                }
            }
            let numbers: Vec<i64> = heads.iter().map(|head| head.number).collect();
            let mut logs = logs(&mut tx, &numbers).await.map_err(|error| failed(what, error))?;
            let mut numbers = Pack::new();
            for mut head in heads {
                let (id, number) = (head.id, head.number);
                head.epoch += 1;
                match logs
                    .remove(&number)
                    .unwrap_or_else(|| Ok(Vec::new()))
                    .and_then(|log| head.record(log))
                {
                    Ok(record) => {
                        numbers.row().int(number);
                        taken.sagas.push(record);
                    }
                    Err(what) => taken.corrupt.push((id, what)),
                }
            }
            own(&mut tx, worker, numbers).await.map_err(|error| failed(what, error))?;
            tx.commit().await?;
            // What cannot be read stays where it is: go on behind it, until the end has been seen.
            let passed =
                rows.len() == limit && (begin_after != i64::MIN || !taken.corrupt.is_empty());
            self.inner.passes.note(pass, passed.then_some(last));
            Ok(taken)
        })
        .await
    }

    async fn take(
        &self,
        worker: WorkerId,
        saga: SagaId,
    ) -> Result<Option<Record<Vec<u8>>>, StoreError> {
        let what = "taking a saga";
        self.bounded(what, async {
            let mut tx = self.begin().await?;
            let sql = AssertSqlSafe(format!(
                "SELECT {HEAD} FROM buttress_saga WHERE id = ?1 AND status NOT IN (4, 5) \
                 AND (status = 3 OR worker = ?3 OR NOT EXISTS (SELECT 1 FROM buttress_saga_worker AS w \
                      WHERE w.worker = buttress_saga.worker AND w.until > ?2))"
            ));
            let row = sqlx::query(sql)
                .bind(bytes_of_id(saga.get()))
                .bind(self.now())
                .bind(bytes_of_id(worker.get()))
                .fetch_optional(&mut **tx)
                .await
                .map_err(|error| failed(what, error))?;
            let Some(row) = row else { return Ok(None) };
            let mut head = head(&row).map_err(|error| failed(what, error))?;
            let number = head.number;
            head.epoch += 1;
            let record = record(&mut tx, head).await?;
            let mut numbers = Pack::new();
            numbers.row().int(number);
            own(&mut tx, worker, numbers).await.map_err(|error| failed(what, error))?;
            tx.commit().await?;
            Ok(Some(record))
        })
        .await
    }

    async fn owned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
    ) -> Result<Vec<SagaId>, StoreError> {
        let what = "listing the sagas of a worker";
        self.bounded(what, async {
            let rows = sqlx::query(
                "SELECT id FROM buttress_saga INDEXED BY buttress_saga_working \
                 WHERE definition = ?1 AND version = ?2 AND status IN (1, 2) AND worker = ?3 \
                 ORDER BY number",
            )
            .bind(definition)
            .bind(i64::from(version))
            .bind(bytes_of_id(worker.get()))
            .fetch_all(self.pool())
            .await
            .map_err(|error| failed(what, error))?;
            // A damaged row is found by whoever looks at it.
            Ok(rows.iter().filter_map(|row| id(row, 0).ok()).map(SagaId::new).collect())
        })
        .await
    }

    async fn load(&self, saga: SagaId) -> Result<Option<Record<Vec<u8>>>, StoreError> {
        let what = "loading a saga";
        self.bounded(what, async {
            // One snapshot for both statements.
            let mut tx = self.pool().begin().await.map_err(|error| failed(what, error))?;
            let found = find(&mut tx, saga).await.map_err(|error| failed(what, error))?;
            let Some(head) = found else { return Ok(None) };
            record(&mut tx, head).await.map(Some)
        })
        .await
    }

    async fn request_cancel(&self, saga: SagaId) -> Result<bool, StoreError> {
        let what = "cancelling a saga";
        self.bounded(what, async {
            let mut tx = self.begin().await?;
            let sql = "UPDATE buttress_saga SET cancel = 1 WHERE id = ? AND status NOT IN (4, 5)";
            let done = sqlx::query(sql)
                .bind(bytes_of_id(saga.get()))
                .execute(&mut **tx)
                .await
                .map_err(|error| failed(what, error))?;
            tx.commit().await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn list(
        &self,
        status: Option<Status>,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        let what = "listing sagas";
        let filter = match status {
            // Written out, so that the partial index is recognised.
            Some(status) if !status.is_ended() => {
                format!("status = {} AND status < 4 AND", status.code())
            }
            Some(status) => format!("status = {} AND", status.code()),
            None => String::new(),
        };
        let begin = match after {
            Some(_) => "id > ?1",
            None => "id >= ?1",
        };
        let sql = AssertSqlSafe(format!(
            "SELECT {HEAD} FROM buttress_saga WHERE {filter} {begin} ORDER BY id LIMIT ?2"
        ));
        self.bounded(what, async {
            let rows = sqlx::query(sql)
                .bind(after.map_or_else(Vec::new, |id| bytes_of_id(id.get())))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(self.pool())
                .await
                .map_err(|error| failed(what, error))?;
            let mut list = Vec::with_capacity(rows.len());
            for row in &rows {
                let head = head(row).map_err(|error| failed(what, error))?;
                match head.summary() {
                    Ok(summary) => list.push(summary),
                    // It must not keep the others from being listed; `load` says what is wrong with it.
                    Err(error) => tracing::warn!(%error, "left out of a list of sagas"),
                }
            }
            Ok(list)
        })
        .await
    }

    async fn purge(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        let mut purged = 0;
        loop {
            let some = (limit - purged).min(PURGED_AT_ONCE);
            let done = self.bounded("purging sagas", self.purge_some(age, some)).await?;
            purged += done;
            if done < some || purged >= limit {
                return Ok(purged);
            }
        }
    }
}

impl SqliteStore {
    async fn purge_some(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        let purging = |error| failed("purging sagas", error);
        let mut tx = self.begin().await?;
        let until = before(self.now(), age);
        let numbers: Vec<i64> = sqlx::query_scalar(
            "SELECT number FROM buttress_saga WHERE ended_at IS NOT NULL AND ended_at <= ? \
             ORDER BY ended_at LIMIT ?",
        )
        .bind(until)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut **tx)
        .await
        .map_err(purging)?;
        let list = json(&numbers);
        for sql in [
            "DELETE FROM buttress_saga_entry WHERE saga IN (SELECT value FROM json_each(?1))",
            "DELETE FROM buttress_saga WHERE number IN (SELECT value FROM json_each(?1))",
        ] {
            sqlx::query(sql).bind(&list).execute(&mut **tx).await.map_err(purging)?;
        }
        sqlx::query("DELETE FROM buttress_saga_worker WHERE until <= ?")
            .bind(until)
            .execute(&mut **tx)
            .await
            .map_err(purging)?;
        tx.commit().await?;
        Ok(numbers.len())
    }
}

/// Makes `worker` the owner of sagas, under the next epoch.
async fn own(
    tx: &mut SqliteConnection,
    worker: WorkerId,
    numbers: Pack,
) -> Result<(), sqlx::Error> {
    if numbers.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE buttress_saga SET worker = ?2, epoch = epoch + 1 \
         WHERE number IN (SELECT value ->> 0 FROM json_each(?1))",
    )
    .bind(numbers.end().json)
    .bind(bytes_of_id(worker.get()))
    .execute(tx)
    .await
    .map(drop)
}

async fn find(tx: &mut SqliteConnection, saga: SagaId) -> Result<Option<Head>, sqlx::Error> {
    let sql = AssertSqlSafe(format!("SELECT {HEAD} FROM buttress_saga WHERE id = ?"));
    let row = sqlx::query(sql).bind(bytes_of_id(saga.get())).fetch_optional(tx).await?;
    row.as_ref().map(head).transpose()
}

async fn record(tx: &mut SqliteConnection, head: Head) -> Result<Record<Vec<u8>>, StoreError> {
    let logs = logs(tx, &[head.number]).await.map_err(|error| failed("reading a log", error))?;
    let lines = logs.into_values().next().unwrap_or_else(|| Ok(Vec::new()));
    lines.and_then(|lines| head.record(lines)).map_err(StoreError::corrupt)
}

/// Whole logs, by the numbers of their sagas; or what of them cannot be read.
async fn logs(
    tx: &mut SqliteConnection,
    numbers: &[i64],
) -> Result<HashMap<i64, Result<Vec<Line>, String>>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT position, kind, step, payload, note, saga FROM buttress_saga_entry \
         WHERE saga IN (SELECT value FROM json_each(?)) ORDER BY saga, position",
    )
    .bind(json(numbers))
    .fetch_all(tx)
    .await?;
    let mut logs: HashMap<i64, Result<Vec<Line>, String>> = HashMap::with_capacity(numbers.len());
    for row in &rows {
        let log = logs.entry(row.try_get(5)?).or_insert_with(|| Ok(Vec::new()));
        match (line(row), &mut *log) {
            (Ok(line), Ok(lines)) => lines.push(line),
            (Err(error), Ok(_)) => *log = Err(format!("an entry of a log: {error}")),
            (_, Err(_)) => {}
        }
    }
    Ok(logs)
}

/// Up to `count` lines of a log from `position` on.
async fn some_lines(
    tx: &mut SqliteConnection,
    head: Option<&Head>,
    position: i64,
    count: usize,
) -> Result<Vec<Line>, sqlx::Error> {
    let Some(head) = head else { return Ok(Vec::new()) };
    let rows = sqlx::query(
        "SELECT position, kind, step, payload, note FROM buttress_saga_entry \
         WHERE saga = ? AND position >= ? ORDER BY position LIMIT ?",
    )
    .bind(head.number)
    .bind(position)
    .bind(signed(count as u64))
    .fetch_all(tx)
    .await?;
    rows.iter().map(line).collect()
}

fn head(row: &SqliteRow) -> Result<Head, sqlx::Error> {
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

fn json(numbers: &[i64]) -> String {
    format!("{numbers:?}")
}
