//! The removal of sagas that ended long ago.

use std::time::Duration;

use buttress_durable::Answer;

use super::json;
use crate::error::failed;
use crate::sqlite::SqliteStore;
use crate::time::before;

/// How many sagas one transaction of a purge removes, so that other transactions do not wait long.
pub(super) const PURGE_BATCH: usize = 200;

impl SqliteStore {
    /// Removes sagas of one definition, or of all, in one transaction.
    pub(super) async fn purge_some(
        &self,
        definition: Option<&str>,
        age: Duration,
        limit: usize,
    ) -> Answer<usize> {
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
            "DELETE FROM buttress_saga_signal WHERE saga IN (SELECT value FROM json_each(?1))",
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
