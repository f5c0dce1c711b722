//! The removal of sagas that ended long ago.

use std::time::Duration;

use buttress_durable::Answer;

use super::query;
use crate::error::during;
use crate::number::{changed, signed};
use crate::postgres::PostgresStore;
use crate::time::span;

/// How many sagas one transaction of a purge removes.
pub(super) const PURGE_BATCH: usize = 1000;

impl PostgresStore {
    /// Removes sagas of one definition, or of all, in one transaction.
    pub(super) async fn purge_some(
        &self,
        definition: Option<&str>,
        age: Duration,
        limit: usize,
    ) -> Answer<usize> {
        let what = during("purging sagas");
        let own = if definition.is_some() { "AND definition = $4" } else { "" };
        // Sagas that ended after now: the clock was set back. They end now, so that the purge does
        // not keep them longer.
        let late = self.sql(
            "UPDATE {s}buttress_saga SET ended_at = {now} WHERE number = ANY (ARRAY( \
             SELECT number FROM {s}buttress_saga WHERE ended_at IS NOT NULL AND ended_at > {now} \
             LIMIT $2 FOR UPDATE SKIP LOCKED))",
        );
        // One statement is one transaction: it removes a saga with its log and its signals.
        let sagas = self.sql(&format!(
            "WITH old AS (SELECT number FROM {{s}}buttress_saga WHERE ended_at IS NOT NULL {own} \
                 AND ended_at <= {{now}} - $2::int8 ORDER BY ended_at LIMIT $3 \
                 FOR UPDATE SKIP LOCKED), \
             lines AS (DELETE FROM {{s}}buttress_saga_entry \
                 WHERE saga = ANY (ARRAY(SELECT number FROM old))), \
             signals AS (DELETE FROM {{s}}buttress_saga_signal \
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
