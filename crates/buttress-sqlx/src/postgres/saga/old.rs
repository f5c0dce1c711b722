//! Old sagas: sagas of other versions, and sagas that ended long ago.

use std::time::Duration;

use buttress::StoreError;
use buttress_durable::saga::Summary;

use super::query;
use crate::error::during;
use crate::log::{HEAD, found};
use crate::number::{changed, signed};
use crate::postgres::PostgresStore;
use crate::purge;
use crate::time::span;

/// How many sagas one transaction of a purge removes.
const PURGE_BATCH: usize = 1000;

impl PostgresStore {
    pub(super) async fn other_versions_of(
        &self,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        let what = during("listing sagas of other versions");
        // Two ranges of the index of unfinished sagas. `+ 0` keeps the planner from a scan of all
        // rows in order.
        let sql = self.sql(&format!(
            "SELECT {HEAD} FROM {{s}}buttress_saga AS s WHERE definition = $2 \
             AND (version < $3 OR version > $3) AND status IN {{working}} \
             AND NOT EXISTS (SELECT 1 FROM {{s}}buttress_saga_worker AS w \
                             WHERE w.worker = s.worker AND w.until > {{now}}) \
             ORDER BY number + 0 LIMIT $4"
        ));
        self.bounded("listing sagas of other versions", async {
            let mut loan = self.borrow().await?;
            let rows = query(sql)
                .bind(self.time())
                .bind(definition)
                .bind(i64::from(version))
                .bind(signed(limit as u64))
                .fetch_all(&mut *loan)
                .await
                .map_err(what)?;
            loan.finish().await?;
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
        let what = during("purging sagas");
        let own = if definition.is_some() { "AND definition = $4" } else { "" };
        // Sagas that ended after now: the clock was set back. They end now, so that the purge does
        // not keep them longer.
        let late = self.sql(
            "UPDATE {s}buttress_saga SET ended_at = {now} WHERE number = ANY (ARRAY( \
             SELECT number FROM {s}buttress_saga WHERE ended_at IS NOT NULL AND ended_at > {now} \
             LIMIT $2 FOR UPDATE SKIP LOCKED))",
        );
        // One statement is one transaction: it removes a saga with its log.
        let sagas = self.sql(&format!(
            "WITH old AS (SELECT number FROM {{s}}buttress_saga WHERE ended_at IS NOT NULL {own} \
                 AND ended_at <= {{now}} - $2::int8 ORDER BY ended_at LIMIT $3 \
                 FOR UPDATE SKIP LOCKED), \
             lines AS (DELETE FROM {{s}}buttress_saga_entry \
                 WHERE saga = ANY (ARRAY(SELECT number FROM old))) \
             DELETE FROM {{s}}buttress_saga WHERE number = ANY (ARRAY(SELECT number FROM old))"
        ));
        let workers =
            self.sql("DELETE FROM {s}buttress_saga_worker WHERE until <= {now} - $2::int8");
        let mut loan = self.borrow().await?;
        let late = query(late).bind(self.time()).bind(signed(limit as u64));
        late.execute(&mut *loan).await.map_err(what)?;
        let mut purging = query(sagas).bind(self.time()).bind(span(age)).bind(signed(limit as u64));
        if let Some(definition) = definition {
            purging = purging.bind(definition);
        }
        let done = purging.execute(&mut *loan).await.map_err(what)?;
        let workers = query(workers).bind(self.time()).bind(span(age));
        workers.execute(&mut *loan).await.map_err(what)?;
        loan.finish().await?;
        Ok(changed(done.rows_affected()))
    }
}
