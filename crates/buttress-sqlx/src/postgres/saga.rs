//! Sagas on PostgreSQL.

use std::collections::HashMap;
use std::time::Duration;

use buttress::StoreError;
use buttress_durable::saga::{
    Append, Appended, NewSaga, Record, SagaId, Status, Store, Summary, TakenOver, WorkerId,
};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::PostgresStore;
use super::rows::{id, query, query_scalar, uuid};
use super::sql::Sql;
use crate::error::during;
use crate::log::{Head, Line, LogOp, prepare_append, prepare_create, signed};
use crate::time::span;

mod append;

pub(super) const HEAD: &str = "number, id, definition, version, codec, epoch, status, length, \
     cancel, deadline, worker";

/// How many sagas one transaction of a purge removes.
const PURGED_AT_ONCE: usize = 1000;

impl Store<Vec<u8>> for PostgresStore {
    async fn renew(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        self.inner.logs.submit("renewing a worker", (worker, lease), LogOp::Renew).await
    }

    async fn retire(&self, worker: WorkerId) -> Result<(), StoreError> {
        let what = during("retiring a worker");
        self.bounded("retiring a worker", async {
            let mut loan = self.borrow().await?;
            let sql = self.sql("DELETE FROM {s}buttress_saga_worker WHERE worker = $1");
            query(sql).bind(uuid(worker.get())).execute(&mut *loan).await.map_err(what)?;
            loan.give_back().await?;
            Ok(())
        })
        .await
    }

    async fn create(&self, mut saga: NewSaga<Vec<u8>>) -> Result<(), StoreError> {
        prepare_create(&mut saga)?;
        self.inner.logs.submit("creating a saga", saga, LogOp::Create).await
    }

    async fn append(&self, mut append: Append<Vec<u8>>) -> Result<Appended, StoreError> {
        prepare_append(&mut append)?;
        self.inner.logs.submit("appending to a saga", append, LogOp::Append).await
    }

    async fn take_over(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<TakenOver<Vec<u8>>, StoreError> {
        let what = during("taking sagas over");
        let pass = (worker, definition.to_owned(), version);
        let begin_after = self.inner.passes.position(&pass);
        // The workers first, as a list: a row that changes while it is waited for is looked at anew
        // with them, and belongs to another worker by then if somebody else took it.
        let sql = self.sql(&format!(
            "SELECT {HEAD} FROM {{s}}buttress_saga \
             WHERE definition = $2 AND version = $3 AND status IN (1, 2) AND number > $4 \
             AND worker = ANY (ARRAY ( \
                 WITH RECURSIVE workers(worker) AS ( \
                     (SELECT worker FROM {{s}}buttress_saga WHERE definition = $2 \
                      AND version = $3 AND status IN (1, 2) ORDER BY worker LIMIT 1) \
                     UNION ALL \
                     SELECT (SELECT s.worker FROM {{s}}buttress_saga AS s \
                             WHERE s.definition = $2 AND s.version = $3 AND s.status IN (1, 2) \
                             AND s.worker > workers.worker ORDER BY s.worker LIMIT 1) \
                     FROM workers WHERE workers.worker IS NOT NULL) \
                 SELECT w.worker FROM workers AS w WHERE w.worker IS NOT NULL AND NOT EXISTS \
                     (SELECT 1 FROM {{s}}buttress_saga_worker AS l \
                      WHERE l.worker = w.worker AND l.until > {{now}}))) \
             ORDER BY number LIMIT $5 FOR UPDATE"
        ));
        self.bounded("taking sagas over", async {
            let mut loan = self.borrow().await?;
            let mut tx = loan.begin().await.map_err(what)?;
            let rows = query(sql)
                .bind(self.time())
                .bind(definition)
                .bind(i64::from(version))
                .bind(begin_after)
                .bind(signed(limit as u64))
                .fetch_all(&mut *tx)
                .await
                .map_err(what)?;
            let heads = rows.iter().map(head).collect::<Result<Vec<_>, _>>().map_err(what)?;
            let last = heads.last().map_or(begin_after, |head| head.number);
            let numbers: Vec<i64> = heads.iter().map(|head| head.number).collect();
            let mut logs = logs(&mut tx, &self.inner.sql, &numbers).await.map_err(what)?;
            let mut taken = TakenOver { sagas: Vec::new(), corrupt: Vec::new() };
            let mut numbers = Vec::with_capacity(heads.len());
            for mut head in heads {
                let (id, number) = (head.id, head.number);
                head.epoch += 1;
                match head.record(logs.remove(&number).unwrap_or_default()) {
                    Ok(record) => {
                        numbers.push(number);
                        taken.sagas.push(record);
                    }
                    Err(what) => taken.corrupt.push((id, what)),
                }
            }
            own(&mut tx, &self.inner.sql, worker, &numbers).await.map_err(what)?;
            tx.commit().await.map_err(what)?;
            loan.give_back().await?;
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
        let what = during("taking a saga");
        let lock =
            self.sql(&format!("SELECT {HEAD} FROM {{s}}buttress_saga WHERE id = $1 FOR UPDATE"));
        let live = self.sql(
            "SELECT EXISTS (SELECT 1 FROM {s}buttress_saga_worker \
             WHERE worker = $2 AND until > {now})",
        );
        self.bounded("taking a saga", async {
            let mut loan = self.borrow().await?;
            let mut tx = loan.begin().await.map_err(what)?;
            let row = query(lock).bind(uuid(saga.get())).fetch_optional(&mut *tx).await;
            let taken = match row.map_err(what)?.as_ref().map(head).transpose().map_err(what)? {
                None => None,
                Some(head) if matches!(head.status(), Ok(status) if status.is_ended()) => None,
                Some(mut head) => {
                    let is_live: bool = query_scalar(live)
                        .bind(self.time())
                        .bind(uuid(head.worker.get()))
                        .fetch_one(&mut *tx)
                        .await
                        .map_err(what)?;
                    if is_live && head.worker != worker && head.status() != Ok(Status::Stuck) {
                        None
                    } else {
                        let number = head.number;
                        head.epoch += 1;
                        let record = record(&mut tx, &self.inner.sql, head).await;
                        if record.is_ok() {
                            let sql = &self.inner.sql;
                            own(&mut tx, sql, worker, &[number]).await.map_err(what)?;
                        }
                        Some(record)
                    }
                }
            };
            tx.commit().await.map_err(what)?;
            loan.give_back().await?;
            taken.transpose()
        })
        .await
    }

    async fn owned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
    ) -> Result<Vec<SagaId>, StoreError> {
        let what = during("listing the sagas of a worker");
        let sql = self.sql(
            "SELECT id FROM {s}buttress_saga \
             WHERE definition = $1 AND version = $2 AND worker = $3 AND status IN (1, 2) \
             ORDER BY number",
        );
        self.bounded("listing the sagas of a worker", async {
            let mut loan = self.borrow().await?;
            let rows = query(sql)
                .bind(definition)
                .bind(i64::from(version))
                .bind(uuid(worker.get()))
                .fetch_all(&mut *loan)
                .await
                .map_err(what)?;
            loan.give_back().await?;
            rows.iter()
                .map(|row| Ok(SagaId::new(id(row, 0)?)))
                .collect::<Result<_, _>>()
                .map_err(what)
        })
        .await
    }

    async fn load(&self, saga: SagaId) -> Result<Option<Record<Vec<u8>>>, StoreError> {
        let what = during("loading a saga");
        self.bounded("loading a saga", async {
            let mut loan = self.borrow_snapshot().await?;
            let found = match find(&mut loan, &self.inner.sql, saga).await.map_err(what)? {
                Some(head) => Some(record(&mut loan, &self.inner.sql, head).await),
                None => None,
            };
            loan.give_back().await?;
            found.transpose()
        })
        .await
    }

    async fn request_cancel(&self, saga: SagaId) -> Result<bool, StoreError> {
        let what = during("cancelling a saga");
        let sql = self.sql(
            "UPDATE {s}buttress_saga SET cancel = true WHERE id = $1 AND status NOT IN (4, 5)",
        );
        self.bounded("cancelling a saga", async {
            let mut loan = self.borrow().await?;
            let query = query(sql).bind(uuid(saga.get()));
            let done = query.execute(&mut *loan).await.map_err(what)?;
            loan.give_back().await?;
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
        let what = during("listing sagas");
        let filter = match status {
            // Written out, so that the partial index is recognised.
            Some(status) => format!("status = {} AND", status.code()),
            None => String::new(),
        };
        let begin = if after.is_some() { "id > $1" } else { "id >= $1" };
        let sql = self.sql(&format!(
            "SELECT {HEAD} FROM {{s}}buttress_saga WHERE {filter} {begin} ORDER BY id LIMIT $2"
        ));
        self.bounded("listing sagas", async {
            let mut loan = self.borrow().await?;
            let rows = query(sql)
                .bind(uuid(after.map_or(0, SagaId::get)))
                .bind(signed(limit as u64))
                .fetch_all(&mut *loan)
                .await
                .map_err(what)?;
            loan.give_back().await?;
            let mut list = Vec::with_capacity(rows.len());
            for row in &rows {
                match head(row).map_err(what)?.summary() {
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

impl PostgresStore {
    async fn purge_some(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        let what = during("purging sagas");
        // One statement is one transaction: a saga goes with its log.
        let sagas = self.sql(
            "WITH old AS (SELECT number FROM {s}buttress_saga WHERE ended_at IS NOT NULL \
                 AND ended_at <= {now} - $2::int8 ORDER BY ended_at LIMIT $3 \
                 FOR UPDATE SKIP LOCKED), \
             lines AS (DELETE FROM {s}buttress_saga_entry \
                 WHERE saga = ANY (ARRAY(SELECT number FROM old))) \
             DELETE FROM {s}buttress_saga WHERE number = ANY (ARRAY(SELECT number FROM old))",
        );
        let workers =
            self.sql("DELETE FROM {s}buttress_saga_worker WHERE until <= {now} - $2::int8");
        let mut loan = self.borrow().await?;
        let done = query(sagas)
            .bind(self.time())
            .bind(span(age))
            .bind(signed(limit as u64))
            .execute(&mut *loan)
            .await
            .map_err(what)?;
        let query = query(workers).bind(self.time()).bind(span(age));
        query.execute(&mut *loan).await.map_err(what)?;
        loan.give_back().await?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }
}

/// Makes `worker` the owner of sagas, under the next epoch.
async fn own(
    tx: &mut PgConnection,
    sql: &Sql,
    worker: WorkerId,
    numbers: &[i64],
) -> Result<(), sqlx::Error> {
    let sql = sql
        .text("UPDATE {s}buttress_saga SET worker = $1, epoch = epoch + 1 WHERE number = ANY ($2)");
    query(sql).bind(uuid(worker.get())).bind(numbers).execute(tx).await.map(drop)
}

async fn find(tx: &mut PgConnection, sql: &Sql, saga: SagaId) -> Result<Option<Head>, sqlx::Error> {
    let sql = sql.text(&format!("SELECT {HEAD} FROM {{s}}buttress_saga WHERE id = $1"));
    let row = query(sql).bind(uuid(saga.get())).fetch_optional(tx).await?;
    row.as_ref().map(head).transpose()
}

async fn record(
    tx: &mut PgConnection,
    sql: &Sql,
    head: Head,
) -> Result<Record<Vec<u8>>, StoreError> {
    let logs = logs(tx, sql, &[head.number]).await.map_err(during("reading a log"))?;
    head.record(logs.into_values().next().unwrap_or_default()).map_err(StoreError::corrupt)
}

/// Whole logs, by the numbers of their sagas.
async fn logs(
    tx: &mut PgConnection,
    sql: &Sql,
    numbers: &[i64],
) -> Result<HashMap<i64, Vec<Line>>, sqlx::Error> {
    let sql = sql.text(
        "SELECT position, kind, step, payload, note, saga FROM {s}buttress_saga_entry \
         WHERE saga = ANY ($1) ORDER BY saga, position",
    );
    let rows = query(sql).bind(numbers).fetch_all(tx).await?;
    let mut logs: HashMap<i64, Vec<Line>> = HashMap::with_capacity(numbers.len());
    for row in &rows {
        logs.entry(row.try_get(5)?).or_default().push(line(row)?);
    }
    Ok(logs)
}

fn head(row: &PgRow) -> Result<Head, sqlx::Error> {
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
