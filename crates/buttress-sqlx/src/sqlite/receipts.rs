//! The removal of old receipts, and of old records of the barrier, on SQLite.

use std::time::Duration;

use buttress_durable::Answer;
use sqlx::AssertSqlSafe;

use super::SqliteStore;
use crate::error::during;
use crate::number::{changed, signed};
use crate::receipts::{self, TABLES};
use crate::time::before;

receipts::purging!(SqliteStore);

impl SqliteStore {
    async fn purge_unbounded(&self, age: Duration, limit: usize) -> Answer<usize> {
        let what = during("purging receipts");
        let mut tx = self.begin().await?;
        let now = self.now();
        let mut removed = 0;
        for (table, key) in TABLES {
            let left = signed(limit.saturating_sub(removed) as u64);
            // Rows of the first release have no time. Rows with a later time than now were written
            // before the clock was set back. They would otherwise be kept until the clock has
            // passed that time.
            let known = format!(
                "UPDATE {table} SET received_at = ?1 WHERE ({key}) IN (SELECT {key} FROM {table} \
                 WHERE received_at = 0 OR received_at > ?1 LIMIT ?2)"
            );
            sqlx::query(AssertSqlSafe(known))
                .bind(now)
                .bind(left)
                .execute(&mut **tx)
                .await
                .map_err(what)?;
            let purge = format!(
                "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} \
                 WHERE received_at > 0 AND received_at <= ?1 ORDER BY received_at LIMIT ?2)"
            );
            let done = sqlx::query(AssertSqlSafe(purge))
                .bind(before(now, age))
                .bind(left)
                .execute(&mut **tx)
                .await
                .map_err(what)?;
            removed += changed(done.rows_affected());
        }
        tx.commit().await?;
        Ok(removed)
    }
}
