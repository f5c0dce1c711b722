//! Sagas on SQLite.

use std::time::Duration;

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::saga::{
    Append, Appended, Moved, NewLog, NewSaga, NewSignal, Page, Record, SagaId, Signal,
    SignalAnswer, Status, Store, Summary, TakeOver, TakenOver, WorkerId,
};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row as _};

use super::SqliteStore;
use super::pack::Pack;
use super::rows::bytes_of_id;
use super::writer::WriteOp;
use crate::columns::Columns as _;
use crate::error::failed;
use crate::number::signed;
use crate::purge;
use crate::saga::delegated::delegated;
use crate::saga::found::{self, Abandoned};
use crate::saga::{ENDED, HEAD, LogOp, OPEN, WAITING, WORKING, prepare_append, prepare_create};

mod append;
mod create_in;
mod migration;
mod purging;
mod read;
mod signals;
mod take;
mod versions;
mod waits;

pub(super) use append::write;

use purging::PURGE_BATCH;
use read::{find, json, lines, logs};

impl Store<Vec<u8>> for SqliteStore {
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Answer<()> {
        self.submit("renewing a worker", (worker, lease), |job| WriteOp::Log(LogOp::Renew(job)))
            .await
    }

    async fn release_worker(&self, worker: WorkerId) -> Answer<()> {
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

    async fn create(&self, mut saga: NewSaga<Vec<u8>>) -> Answer<()> {
        prepare_create(&mut saga)?;
        self.submit("creating a saga", saga, |job| WriteOp::Log(LogOp::Create(job))).await
    }

    async fn append(&self, mut append: Append<Vec<u8>>) -> Answer<Appended> {
        prepare_append(&mut append)?;
        self.submit("appending to a saga", append, |job| WriteOp::Log(LogOp::Append(job))).await
    }

    async fn take_abandoned(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<Vec<u8>>> {
        let what = "taking sagas over";
        let TakeOver { worker, definition, version, limit, .. } = sagas;
        let pass = (worker, definition.to_owned(), version);
        let begin_after = self.inner.passes.position(&pass);
        self.bounded(what, async {
            let mut tx = self.begin().await?;
            let now = self.now();
            shorten(&mut tx, now).await.map_err(|error| failed(what, error))?;
            let sql = AssertSqlSafe(format!(
                "WITH RECURSIVE workers(worker) AS ( \
                     SELECT min(worker) FROM buttress_saga \
                     WHERE definition = ?1 AND version = ?2 AND status IN {WORKING} \
                     UNION ALL \
                     SELECT (SELECT min(worker) FROM buttress_saga \
                             WHERE definition = ?1 AND version = ?2 AND status IN {WORKING} \
                             AND worker > workers.worker) \
                     FROM workers WHERE workers.worker IS NOT NULL) \
                 SELECT {HEAD} FROM buttress_saga INDEXED BY buttress_saga_working \
                 WHERE definition = ?1 AND version = ?2 AND status IN {WORKING} AND number > ?3 \
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
            let found = Abandoned::read(&rows).map_err(|error| failed(what, error))?;
            let logs =
                logs(&mut tx, &found.numbers()).await.map_err(|error| failed(what, error))?;
            let (mut taken, last) = (found.taken, found.last);
            let mut numbers = Pack::new();
            for number in found::take(found.heads, logs, now, &mut taken) {
                numbers.row().int(number);
            }
            own(&mut tx, worker, numbers).await.map_err(|error| failed(what, error))?;
            tx.commit().await?;
            self.inner.passes.note(pass, (begin_after, last), rows.len() == limit, &taken);
            Ok(taken)
        })
        .await
    }

    async fn owned(&self, worker: WorkerId, name: &str, version: u32) -> Answer<Vec<SagaId>> {
        let what = "listing the sagas of a worker";
        self.bounded(what, async {
            let sql = AssertSqlSafe(format!(
                "SELECT id FROM buttress_saga INDEXED BY buttress_saga_working \
                 WHERE definition = ?1 AND version = ?2 AND status IN {WORKING} AND worker = ?3 \
                 ORDER BY number"
            ));
            let rows = sqlx::query(sql)
                .bind(name)
                .bind(i64::from(version))
                .bind(bytes_of_id(worker.get()))
                .fetch_all(self.pool())
                .await
                .map_err(|error| failed(what, error))?;
            // Calls that read the row report the damage.
            Ok(rows.iter().filter_map(|row| row.id(0).ok()).map(SagaId::new).collect())
        })
        .await
    }

    async fn has_unowned(&self, name: &str, version: u32) -> Answer<bool> {
        let what = "looking for new sagas";
        self.bounded(what, async {
            let sql = AssertSqlSafe(format!(
                "SELECT EXISTS (SELECT 1 FROM buttress_saga INDEXED BY buttress_saga_working \
                 WHERE definition = ?1 AND version = ?2 AND status IN {WORKING} AND worker = ?3)"
            ));
            sqlx::query_scalar(sql)
                .bind(name)
                .bind(i64::from(version))
                .bind(bytes_of_id(WorkerId::NOBODY.get()))
                .fetch_one(self.pool())
                .await
                .map_err(|error| failed(what, error))
        })
        .await
    }

    async fn load(&self, saga: SagaId) -> Answer<Option<Record<Vec<u8>>>> {
        let what = "loading a saga";
        self.bounded(what, async {
            // One snapshot for both statements.
            let mut tx = self.pool().begin().await.map_err(|error| failed(what, error))?;
            let found = find(&mut tx, saga).await.map_err(|error| failed(what, error))?;
            let Some(head) = found.transpose()? else { return Ok(None) };
            let lines = lines(&mut tx, head.number).await?;
            lines.and_then(|lines| head.record(lines)).map(Some).map_err(StoreError::corrupt)
        })
        .await
    }

    async fn request_cancel(&self, saga: SagaId) -> Answer<bool> {
        let what = "cancelling a saga";
        self.bounded(what, async {
            let mut tx = self.begin().await?;
            let sql = AssertSqlSafe(format!(
                "UPDATE buttress_saga SET cancel = 1, due_at = min(due_at, ?2) \
                 WHERE id = ?1 AND status NOT IN {ENDED}"
            ));
            let done = sqlx::query(sql)
                .bind(bytes_of_id(saga.get()))
                .bind(self.now())
                .execute(&mut **tx)
                .await
                .map_err(|error| failed(what, error))?;
            tx.commit().await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn list(&self, page: Page) -> Answer<Vec<Summary>> {
        let what = "listing sagas";
        let Page { status, after, limit, .. } = page;
        let filter = match status {
            // As a literal, so that SQLite recognises the partial index.
            Some(Status::Waiting) => format!("{WAITING} AND"),
            Some(status) if !status.is_ended() => {
                format!("status = {} AND {OPEN} AND", status.code())
            }
            Some(status) => format!("status = {} AND", status.code()),
            None => String::new(),
        };
        let statement = |begin: &str| {
            AssertSqlSafe(format!(
                "SELECT {HEAD} FROM buttress_saga WHERE {filter} {begin} ORDER BY id LIMIT ?2"
            ))
        };
        self.bounded(what, async {
            let mut list = Vec::new();
            let mut after = after.map(|id| bytes_of_id(id.get()));
            while list.len() < limit {
                let sql = statement(if after.is_some() { "id > ?1" } else { "id >= ?1" });
                let rows = sqlx::query(sql)
                    .bind(after.unwrap_or_default())
                    .bind(signed((limit - list.len()) as u64))
                    .fetch_all(self.pool())
                    .await
                    .map_err(|error| failed(what, error))?;
                let Some(last) = rows.last() else { break };
                // The raw value of the row, because damaged rows have a place in the order too.
                after = Some(last.try_get(1).map_err(|error| failed(what, error))?);
                found::list(&rows, &mut list);
            }
            Ok(list)
        })
        .await
    }

    delegated!();

    purge::sagas!(PURGE_BATCH);
}

/// Shortens leases of workers that end later than their length from now, because the clock was set
/// back.
async fn shorten(tx: &mut SqliteConnection, now: i64) -> sqlx::Result<()> {
    let sql = "UPDATE buttress_saga_worker SET until = ?1 + max(length, 0) \
               WHERE until > ?1 AND until - max(length, 0) > ?1";
    sqlx::query(sql).bind(now).execute(tx).await.map(drop)
}

/// Makes `worker` the owner of sagas, under the next epoch.
async fn own(tx: &mut SqliteConnection, worker: WorkerId, numbers: Pack) -> sqlx::Result<()> {
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
