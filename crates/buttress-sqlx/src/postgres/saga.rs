//! Sagas on PostgreSQL.

use std::time::Duration;

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::saga::{
    Append, Appended, Moved, NewLog, NewSaga, NewSignal, Page, Record, SagaId, Signal,
    SignalAnswer, Store, Summary, TakeOver, TakenOver, WorkerId,
};
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::rows::{query, query_scalar, uuid};
use super::sql::Sql;
use crate::columns::Columns as _;
use crate::error::during;
use crate::number::signed;
use crate::purge;
use crate::saga::delegated::delegated;
use crate::saga::found::{self, Abandoned};
use crate::saga::{HEAD, LogOp, prepare_append, prepare_create};

mod append;
mod create_in;
mod migration;
mod purging;
mod read;
mod signals;
mod take;
mod versions;
mod waits;

use purging::PURGE_BATCH;
use read::{find, lines, logs};

impl Store<Vec<u8>> for PostgresStore {
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Answer<()> {
        self.inner.logs.submit("renewing a worker", (worker, lease), LogOp::Renew).await
    }

    async fn release_worker(&self, worker: WorkerId) -> Answer<()> {
        let what = during("retiring a worker");
        self.bounded("retiring a worker", async {
            let mut loan = self.borrow().await?;
            let sql = self.sql("DELETE FROM {s}buttress_saga_worker WHERE worker = $1");
            query(sql).bind(uuid(worker.get())).execute(&mut *loan).await.map_err(what)?;
            loan.finish().await?;
            Ok(())
        })
        .await
    }

    async fn create(&self, mut saga: NewSaga<Vec<u8>>) -> Answer<()> {
        prepare_create(&mut saga)?;
        self.inner.logs.submit("creating a saga", saga, LogOp::Create).await
    }

    async fn append(&self, mut append: Append<Vec<u8>>) -> Answer<Appended> {
        prepare_append(&mut append)?;
        self.inner.logs.submit("appending to a saga", append, LogOp::Append).await
    }

    async fn take_abandoned(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<Vec<u8>>> {
        let what = during("taking sagas over");
        let TakeOver { worker, definition, version, limit, .. } = sagas;
        let pass = (worker, definition.to_owned(), version);
        let begin_after = self.inner.passes.position(&pass);
        // The list of workers is part of the statement. PostgreSQL checks a row that changed during
        // the wait again with this list. If another worker took the saga, its new owner is not in
        // the list.
        let sql = self.sql(&format!(
            "SELECT {HEAD}, {{now}} FROM {{s}}buttress_saga \
             WHERE definition = $2 AND version = $3 AND status IN {{working}} AND number > $4 \
             AND worker = ANY (ARRAY ( \
                 WITH RECURSIVE workers(worker) AS ( \
                     (SELECT worker FROM {{s}}buttress_saga WHERE definition = $2 \
                      AND version = $3 AND status IN {{working}} ORDER BY worker LIMIT 1) \
                     UNION ALL \
                     SELECT (SELECT s.worker FROM {{s}}buttress_saga AS s \
                             WHERE s.definition = $2 AND s.version = $3 AND s.status IN {{working}} \
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
            shorten(&mut tx, &self.inner.sql).await.map_err(what)?;
            let rows = query(sql)
                .bind(self.time())
                .bind(definition)
                .bind(i64::from(version))
                .bind(begin_after)
                .bind(signed(limit as u64))
                .fetch_all(&mut *tx)
                .await
                .map_err(what)?;
            let found = Abandoned::read(&rows).map_err(what)?;
            let logs = logs(&mut tx, &self.inner.sql, &found.numbers()).await.map_err(what)?;
            let (mut taken, last) = (found.taken, found.last);
            let now = found::now(&rows).map_err(what)?;
            let numbers = found::take(found.heads, logs, now, &mut taken);
            own(&mut tx, &self.inner.sql, worker, &numbers).await.map_err(what)?;
            tx.commit().await.map_err(what)?;
            loan.finish().await?;
            self.inner.passes.note(pass, (begin_after, last), rows.len() == limit, &taken);
            Ok(taken)
        })
        .await
    }

    async fn owned(&self, worker: WorkerId, name: &str, version: u32) -> Answer<Vec<SagaId>> {
        let what = during("listing the sagas of a worker");
        let sql = self.sql(
            "SELECT id FROM {s}buttress_saga \
             WHERE definition = $1 AND version = $2 AND worker = $3 AND status IN {working} \
             ORDER BY number",
        );
        self.bounded("listing the sagas of a worker", async {
            let mut loan = self.borrow().await?;
            let rows = query(sql)
                .bind(name)
                .bind(i64::from(version))
                .bind(uuid(worker.get()))
                .fetch_all(&mut *loan)
                .await
                .map_err(what)?;
            loan.finish().await?;
            // Calls that read the row report the damage.
            Ok(rows.iter().filter_map(|row| row.id(0).ok()).map(SagaId::new).collect())
        })
        .await
    }

    async fn has_unowned(&self, name: &str, version: u32) -> Answer<bool> {
        let what = during("looking for new sagas");
        let sql = self.sql(
            "SELECT EXISTS (SELECT 1 FROM {s}buttress_saga \
             WHERE definition = $1 AND version = $2 AND worker = $3 AND status IN {working})",
        );
        self.bounded("looking for new sagas", async {
            let mut loan = self.borrow().await?;
            let found = query_scalar(sql)
                .bind(name)
                .bind(i64::from(version))
                .bind(uuid(WorkerId::NOBODY.get()))
                .fetch_one(&mut *loan)
                .await
                .map_err(what)?;
            loan.finish().await?;
            Ok(found)
        })
        .await
    }

    async fn load(&self, saga: SagaId) -> Answer<Option<Record<Vec<u8>>>> {
        let what = during("loading a saga");
        self.bounded("loading a saga", async {
            let mut loan = self.borrow_snapshot().await?;
            let found = find(&mut loan, &self.inner.sql, saga).await.map_err(what)?;
            let found = match found.transpose()? {
                Some(head) => {
                    let lines =
                        lines(&mut loan, &self.inner.sql, head.number).await.map_err(what)?;
                    let record = lines.and_then(|lines| head.record(lines));
                    Some(record.map_err(StoreError::corrupt))
                }
                None => None,
            };
            loan.finish().await?;
            found.transpose()
        })
        .await
    }

    async fn request_cancel(&self, saga: SagaId) -> Answer<bool> {
        let what = during("cancelling a saga");
        let sql = self.sql(
            "UPDATE {s}buttress_saga SET cancel = true, \
             due_at = CASE WHEN {waiting} THEN least(due_at, {now}) ELSE due_at END \
             WHERE id = $2 AND status NOT IN {ended}",
        );
        self.bounded("cancelling a saga", async {
            let mut loan = self.borrow().await?;
            let query = query(sql).bind(self.time()).bind(uuid(saga.get()));
            let done = query.execute(&mut *loan).await.map_err(what)?;
            loan.finish().await?;
            Ok(done.rows_affected() > 0)
        })
        .await
    }

    async fn list(&self, page: Page) -> Answer<Vec<Summary>> {
        let what = during("listing sagas");
        let Page { status, after, limit, .. } = page;
        let filter = match status {
            // As a literal, so that the planner recognises the partial index.
            Some(status) => format!("status = {} AND", status.code()),
            None => String::new(),
        };
        let statement = |begin: &str| {
            self.sql(&format!(
                "SELECT {HEAD} FROM {{s}}buttress_saga WHERE {filter} {begin} ORDER BY id LIMIT $2"
            ))
        };
        self.bounded("listing sagas", async {
            let mut list = Vec::new();
            let mut loan = self.borrow().await?;
            let mut after = after;
            while list.len() < limit {
                let sql = statement(if after.is_some() { "id > $1" } else { "id >= $1" });
                let rows = query(sql)
                    .bind(uuid(after.map_or(0, SagaId::get)))
                    .bind(signed((limit - list.len()) as u64))
                    .fetch_all(&mut *loan)
                    .await
                    .map_err(what)?;
                let Some(last) = rows.last() else { break };
                after = Some(SagaId::new(last.id(1).map_err(what)?));
                found::list(&rows, &mut list);
            }
            loan.finish().await?;
            Ok(list)
        })
        .await
    }

    delegated!();

    purge::sagas!(PURGE_BATCH);
}

/// Shortens leases of workers that end later than their length from now, because the clock was set
/// back. A locked row is being renewed.
async fn shorten(tx: &mut PgConnection, sql: &Sql) -> sqlx::Result<()> {
    let text = sql.text(
        "WITH t AS MATERIALIZED (SELECT {now} AS now), \
         late AS MATERIALIZED (SELECT worker FROM {s}buttress_saga_worker \
             WHERE until::float8 - length::float8 > (SELECT now FROM t) \
             ORDER BY worker FOR UPDATE SKIP LOCKED) \
         UPDATE {s}buttress_saga_worker AS w SET until = t.now + greatest(w.length, 0) \
         FROM late AS l CROSS JOIN t WHERE w.worker = l.worker AND CASE WHEN w.until > t.now \
             THEN w.until - greatest(w.length, 0) > t.now ELSE false END",
    );
    query(text).bind(sql.time()).execute(tx).await.map(drop)
}

/// Makes `worker` the owner of sagas, under the next epoch.
async fn own(
    tx: &mut PgConnection,
    sql: &Sql,
    worker: WorkerId,
    numbers: &[i64],
) -> sqlx::Result<()> {
    let sql = sql
        .text("UPDATE {s}buttress_saga SET worker = $1, epoch = epoch + 1 WHERE number = ANY ($2)");
    query(sql).bind(uuid(worker.get())).bind(numbers).execute(tx).await.map(drop)
}
