//! The removal of old receipts, and of old records of the barrier, on PostgreSQL.

use std::time::Duration;

use buttress_durable::Answer;

use super::PostgresStore;
use super::rows::query;
use crate::error::during;
use crate::number::{changed, signed};
use crate::receipts::{self, TABLES};
use crate::time::span;

receipts::purging!(PostgresStore);

impl PostgresStore {
    async fn purge_unbounded(&self, age: Duration, limit: usize) -> Answer<usize> {
        let what = during("purging receipts");
        let mut removed = 0;
        for (table, key) in TABLES {
            let left = signed(limit.saturating_sub(removed) as u64);
            // Rows of the first release have no time. Rows with a later time than now were written
            // before the clock was set back. They would otherwise be kept until the clock has
            // passed that time.
            let known = self.sql(&format!(
                "UPDATE {{s}}{table} SET received_at = {{now}} WHERE ({key}) IN \
                 (SELECT {key} FROM {{s}}{table} WHERE received_at = 0 OR received_at > {{now}} \
                  LIMIT $2 FOR UPDATE SKIP LOCKED)"
            ));
            let purge = self.sql(&format!(
                "DELETE FROM {{s}}{table} WHERE ({key}) IN (SELECT {key} FROM {{s}}{table} \
                 WHERE received_at > 0 AND received_at <= {{now}} - $3::int8 ORDER BY received_at \
                 LIMIT $2 FOR UPDATE SKIP LOCKED)"
            ));
            let mut loan = self.borrow().await?;
            let known = query(known).bind(self.time()).bind(left);
            known.execute(&mut *loan).await.map_err(what)?;
            loan.finish().await?;
            let mut loan = self.borrow().await?;
            let purge = query(purge).bind(self.time()).bind(left).bind(span(age));
            let done = purge.execute(&mut *loan).await.map_err(what)?;
            loan.finish().await?;
            removed += changed(done.rows_affected());
        }
        Ok(removed)
    }
}
