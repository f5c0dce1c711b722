//! The barrier on PostgreSQL.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::saga::{Barrier, Passage, SagaId};

use super::PostgresStore;
use super::rows::{Tx, query_as, uuid};
use super::sql::Statement;
use crate::bounds::check_name;
use crate::error::during;
use crate::saga::barrier::{action, undo};

/// The second caller waits for the transaction of the first one, and then sees its result.
impl<'a> Barrier<Tx<'a>> for PostgresStore {
    async fn action(&self, tx: &mut Tx<'a>, saga: SagaId, step: &str) -> Answer<Passage> {
        check_name("step", step)?;
        let sql = self.sql(
            "INSERT INTO {s}buttress_inbox_step AS b (saga, step, state, actions, undos, received_at) \
             VALUES ($2, $3, 1, 1, 0, {now}) ON CONFLICT (saga, step) \
             DO UPDATE SET actions = b.actions \
             + CASE WHEN b.actions BETWEEN 0 AND 1000000 THEN 1 ELSE 0 END, \
             received_at = greatest(b.received_at, excluded.received_at) RETURNING state, actions",
        );
        let row = self.count(tx, "passing an action", sql, saga, step).await?;
        action(saga, step, row)
    }

    async fn undo(&self, tx: &mut Tx<'a>, saga: SagaId, step: &str) -> Answer<Passage> {
        check_name("step", step)?;
        let sql = self.sql(
            "INSERT INTO {s}buttress_inbox_step AS b (saga, step, state, actions, undos, received_at) \
             VALUES ($2, $3, 3, 0, 1, {now}) ON CONFLICT (saga, step) DO UPDATE \
             SET undos = b.undos + CASE WHEN b.undos BETWEEN 0 AND 1000000 THEN 1 ELSE 0 END, \
             received_at = greatest(b.received_at, excluded.received_at), \
             state = CASE b.state WHEN 1 THEN 2 ELSE b.state END RETURNING state, undos",
        );
        let row = self.count(tx, "passing an undo", sql, saga, step).await?;
        undo(saga, step, row)
    }
}

impl PostgresStore {
    /// Counts an action or an undo. Returns the state and the count.
    async fn count(
        &self,
        tx: &mut Tx<'_>,
        what: &'static str,
        sql: Statement,
        saga: SagaId,
        step: &str,
    ) -> Result<(i64, i64), StoreError> {
        let query = query_as(sql).bind(self.time()).bind(uuid(saga.get())).bind(step);
        self.bounded(what, async { query.fetch_one(&mut **tx).await.map_err(during(what)) }).await
    }
}
