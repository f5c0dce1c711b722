//! The inbox on PostgreSQL.

use buttress::StoreError;
use buttress_durable::outbox::{Inbox, MessageId, Passage, Receipt};
use buttress_durable::saga::SagaId;
use sqlx::{Postgres, Transaction};

use super::PostgresStore;
use super::rows::uuid;
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
        let done = sqlx::query(sql)
            .bind(consumer)
            .bind(uuid(message.get()))
            .execute(&mut **tx)
            .await
            .map_err(during("receiving a message"))?;
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
        let row: (i64, i64) = sqlx::query_as(sql)
            .bind(uuid(saga.get()))
            .bind(step)
            .fetch_one(&mut **tx)
            .await
            .map_err(during("passing an action"))?;
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
        let row: (i64, i64) = sqlx::query_as(sql)
            .bind(uuid(saga.get()))
            .bind(step)
            .fetch_one(&mut **tx)
            .await
            .map_err(during("passing an undo"))?;
        undo(saga, step, row)
    }
}
