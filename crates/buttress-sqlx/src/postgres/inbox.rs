//! The inbox on PostgreSQL.

use std::time::Duration;

use buttress::StoreError;
use buttress_durable::outbox::{Inbox, MessageId, Passage, Receipt};
use buttress_durable::saga::SagaId;
use sqlx::{Postgres, Transaction};

use super::PostgresStore;
use super::rows::{query, query_as, uuid};
use super::sql::Statement;
use crate::barrier::{action, undo};
use crate::bounds::check_name;
use crate::error::during;
use crate::log::signed;
use crate::time::span;

/// The second caller waits for the transaction of the first one, and then sees its result.
impl<'a> Inbox<Transaction<'a, Postgres>> for PostgresStore {
    async fn receive(
        &self,
        tx: &mut Transaction<'a, Postgres>,
        consumer: &str,
        message: MessageId,
    ) -> Result<Receipt, StoreError> {
        check_name("consumer", consumer)?;
        let sql = self.sql(
            "INSERT INTO {s}buttress_inbox (consumer, message, received_at) VALUES ($2, $3, {now}) \
             ON CONFLICT DO NOTHING",
        );
        let what = "receiving a message";
        let query = query(sql).bind(self.time()).bind(consumer).bind(uuid(message.get()));
        let done = self
            .bounded(what, async { query.execute(&mut **tx).await.map_err(during(what)) })
            .await?;
        Ok(if done.rows_affected() == 0 { Receipt::Repeated } else { Receipt::First })
    }

    async fn action(
        &self,
        tx: &mut Transaction<'a, Postgres>,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
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

    async fn undo(
        &self,
        tx: &mut Transaction<'a, Postgres>,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
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
    /// Removes up to `limit` receipts and barriers, together, that were written at least `age` ago.
    pub(super) async fn purge_some_receipts(
        &self,
        age: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let what = during("purging receipts");
        let mut removed = 0;
        for (table, key) in
            [("buttress_inbox", "consumer, message"), ("buttress_inbox_step", "saga, step")]
        {
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
            removed += usize::try_from(done.rows_affected()).unwrap_or(usize::MAX);
        }
        Ok(removed)
    }

    /// Counts an action or an undo. Returns the state and the count.
    async fn count(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        what: &'static str,
        sql: Statement,
        saga: SagaId,
        step: &str,
    ) -> Result<(i64, i64), StoreError> {
        let query = query_as(sql).bind(self.time()).bind(uuid(saga.get())).bind(step);
        self.bounded(what, async { query.fetch_one(&mut **tx).await.map_err(during(what)) }).await
    }
}
