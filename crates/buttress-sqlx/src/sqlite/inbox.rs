//! The inbox on SQLite.

use std::time::Duration;

use buttress::StoreError;
use buttress_durable::outbox::{Inbox, MessageId, Passage, Receipt};
use buttress_durable::saga::SagaId;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Sqlite, Transaction};

use super::rows::bytes_of_id;
use super::{SqliteStore, SqliteTransaction};
use crate::barrier::{action, undo};
use crate::bounds::check_name;
use crate::error::during;
use crate::log::signed;
use crate::time::before;

impl<'a> Inbox<Transaction<'a, Sqlite>> for SqliteStore {
    async fn receive(
        &self,
        tx: &mut Transaction<'a, Sqlite>,
        consumer: &str,
        message: MessageId,
    ) -> Result<Receipt, StoreError> {
        receive(tx, self.now(), consumer, message).await
    }

    async fn action(
        &self,
        tx: &mut Transaction<'a, Sqlite>,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        pass_action(tx, self.now(), saga, step).await
    }

    async fn undo(
        &self,
        tx: &mut Transaction<'a, Sqlite>,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        pass_undo(tx, self.now(), saga, step).await
    }
}

impl Inbox<SqliteTransaction> for SqliteStore {
    async fn receive(
        &self,
        tx: &mut SqliteTransaction,
        consumer: &str,
        message: MessageId,
    ) -> Result<Receipt, StoreError> {
        receive(tx, self.now(), consumer, message).await
    }

    async fn action(
        &self,
        tx: &mut SqliteTransaction,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        pass_action(tx, self.now(), saga, step).await
    }

    async fn undo(
        &self,
        tx: &mut SqliteTransaction,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        pass_undo(tx, self.now(), saga, step).await
    }
}

async fn receive(
    tx: &mut SqliteConnection,
    now: i64,
    consumer: &str,
    message: MessageId,
) -> Result<Receipt, StoreError> {
    check_name("consumer", consumer)?;
    let done = sqlx::query(
        "INSERT INTO buttress_inbox (consumer, message, received_at) VALUES (?, ?, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(consumer)
    .bind(bytes_of_id(message.get()))
    .bind(now)
    .execute(tx)
    .await
    .map_err(during("receiving a message"))?;
    Ok(if done.rows_affected() == 0 { Receipt::Repeated } else { Receipt::First })
}

async fn pass_action(
    tx: &mut SqliteConnection,
    now: i64,
    saga: SagaId,
    step: &str,
) -> Result<Passage, StoreError> {
    check_name("step", step)?;
    let row: (i64, i64) = sqlx::query_as(
        "INSERT INTO buttress_inbox_step (saga, step, state, actions, undos, received_at) \
         VALUES (?, ?, 1, 1, 0, ?) ON CONFLICT (saga, step) DO UPDATE \
         SET actions = actions + (actions BETWEEN 0 AND 1000000), \
             received_at = max(received_at, excluded.received_at) RETURNING state, actions",
    )
    .bind(bytes_of_id(saga.get()))
    .bind(step)
    .bind(now)
    .fetch_one(tx)
    .await
    .map_err(during("passing an action"))?;
    action(saga, step, row)
}

async fn pass_undo(
    tx: &mut SqliteConnection,
    now: i64,
    saga: SagaId,
    step: &str,
) -> Result<Passage, StoreError> {
    check_name("step", step)?;
    let row: (i64, i64) = sqlx::query_as(
        "INSERT INTO buttress_inbox_step (saga, step, state, actions, undos, received_at) \
         VALUES (?, ?, 3, 0, 1, ?) ON CONFLICT (saga, step) DO UPDATE \
         SET undos = undos + (undos BETWEEN 0 AND 1000000), \
             received_at = max(received_at, excluded.received_at), \
             state = CASE state WHEN 1 THEN 2 ELSE state END RETURNING state, undos",
    )
    .bind(bytes_of_id(saga.get()))
    .bind(step)
    .bind(now)
    .fetch_one(tx)
    .await
    .map_err(during("passing an undo"))?;
    undo(saga, step, row)
}

impl SqliteStore {
    /// Removes up to `limit` receipts and barriers, together, that were written at least `age` ago.
    pub(super) async fn purge_some_receipts(
        &self,
        age: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let what = during("purging receipts");
        let mut tx = self.begin().await?;
        let now = self.now();
        let mut removed = 0;
        for (table, key) in
            [("buttress_inbox", "consumer, message"), ("buttress_inbox_step", "saga, step")]
        {
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
            removed += usize::try_from(done.rows_affected()).unwrap_or(usize::MAX);
        }
        tx.commit().await?;
        Ok(removed)
    }
}
