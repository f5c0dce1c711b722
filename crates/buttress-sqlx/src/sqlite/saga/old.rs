//! Old sagas: sagas of other versions, and sagas that ended long ago.

use std::time::Duration;

use buttress::StoreError;
use buttress_durable::saga::Summary;
use sqlx::AssertSqlSafe;

use super::json;
use crate::error::failed;
use crate::log::{HEAD, WORKING, found};
use crate::purge;
use crate::sqlite::SqliteStore;
use crate::time::before;

/// How many sagas one transaction of a purge removes, so that other transactions do not wait long.
const PURGE_BATCH: usize = 200;

impl SqliteStore {
    pub(super) async fn other_versions_of(
        &self,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        let what = "listing sagas of other versions";
        // Two ranges of the index of unfinished sagas. `+` keeps SQLite from a scan of all rows in
        // order.
        let sql = AssertSqlSafe(format!(
            "SELECT {HEAD} FROM buttress_saga WHERE definition = ?1 \
             AND (version < ?2 OR version > ?2) AND status IN {WORKING} \
             AND NOT EXISTS (SELECT 1 FROM buttress_saga_worker AS w \
                             WHERE w.worker = buttress_saga.worker AND w.until > ?3) \
             ORDER BY +number LIMIT ?4"
        ));
        self.bounded(what, async {
            let rows = sqlx::query(sql)
                .bind(definition)
                .bind(i64::from(version))
                .bind(self.now())
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(self.pool())
                .await
                .map_err(|error| failed(what, error))?;
            Ok(found::other_versions(&rows))
        })
        .await
    }

    /// Removes sagas of one definition, or of all, a batch per transaction.
    pub(super) async fn purge_all(
        &self,
        definition: Option<&str>,
        age: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        purge::in_batches(limit, PURGE_BATCH, |some| {
            self.bounded("purging sagas", self.purge_some(definition, age, some))
        })
        .await
    }

    async fn purge_some(
        &self,
        definition: Option<&str>,
        age: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let purging = |error| failed("purging sagas", error);
        let mut tx = self.begin().await?;
        let now = self.now();
        let until = before(now, age);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // Sagas that ended after now: the clock was set back. They end now, so that the purge does
        // not keep them longer.
        sqlx::query(
            "UPDATE buttress_saga SET ended_at = ?1 WHERE number IN \
             (SELECT number FROM buttress_saga WHERE ended_at > ?1 LIMIT ?2)",
        )
        .bind(now)
        .bind(limit)
        .execute(&mut **tx)
        .await
        .map_err(purging)?;
        let old = match definition {
            Some(definition) => sqlx::query_scalar(
                "SELECT number FROM buttress_saga WHERE ended_at IS NOT NULL AND definition = ?3 \
                 AND ended_at <= ?1 ORDER BY ended_at LIMIT ?2",
            )
            .bind(until)
            .bind(limit)
            .bind(definition),
            None => sqlx::query_scalar(
                "SELECT number FROM buttress_saga WHERE ended_at IS NOT NULL AND ended_at <= ?1 \
                 ORDER BY ended_at LIMIT ?2",
            )
            .bind(until)
            .bind(limit),
        };
        let numbers: Vec<i64> = old.fetch_all(&mut **tx).await.map_err(purging)?;
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
