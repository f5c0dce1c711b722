//! The inbox on PostgreSQL.

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

/// What comes second waits for the transaction of what came first, and then knows what became of it.
impl<'a> Inbox<Transaction<'a, Postgres>> for PostgresStore {
    async fn receive(
        &self,
        tx: &mut Transaction<'a, Postgres>,
        consumer: &str,
        message: MessageId,
    ) -> Result<Receipt, StoreError> {
        check_name("consumer", consumer)?;
        let sql = self.sql(
            "INSERT INTO {s}buttress_inbox (consumer, message) VALUES ($1, $2) \
             ON CONFLICT DO NOTHING",
        );
        let what = "receiving a message";
        let query = query(sql).bind(consumer).bind(uuid(message.get()));
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
            "INSERT INTO {s}buttress_inbox_step AS b (saga, step, state, actions, undos) \
             VALUES ($1, $2, 1, 1, 0) ON CONFLICT (saga, step) \
             DO UPDATE SET actions = b.actions + 1 RETURNING state, actions",
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
            "INSERT INTO {s}buttress_inbox_step AS b (saga, step, state, actions, undos) \
             VALUES ($1, $2, 3, 0, 1) ON CONFLICT (saga, step) DO UPDATE SET undos = b.undos + 1, \
             state = CASE b.state WHEN 1 THEN 2 ELSE b.state END RETURNING state, undos",
        );
        let row = self.count(tx, "passing an undo", sql, saga, step).await?;
        undo(saga, step, row)
    }
}

impl PostgresStore {
    /// Counts an action or an undo; returns the state, and how many came.
    async fn count(
        &self,
        tx: &mut Transaction<'_, Postgres>,
        what: &'static str,
        sql: Statement,
        saga: SagaId,
        step: &str,
    ) -> Result<(i64, i64), StoreError> {
        let query = query_as(sql).bind(uuid(saga.get())).bind(step);
        self.bounded(what, async { query.fetch_one(&mut **tx).await.map_err(during(what)) }).await
    }
}
