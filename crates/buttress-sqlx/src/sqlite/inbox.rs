//! The inbox on SQLite.

use buttress::StoreError;
use buttress_durable::outbox::{Inbox, MessageId, Passage, Receipt};
use buttress_durable::saga::SagaId;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Sqlite, Transaction};

use super::rows::bytes_of_id;
use super::{SqliteStore, SqliteTransaction};
use crate::barrier::{action, undo};
use crate::bounds::check_name;
use crate::error::during;

impl<'a> Inbox<Transaction<'a, Sqlite>> for SqliteStore {
    async fn receive(
        &self,
        tx: &mut Transaction<'a, Sqlite>,
        consumer: &str,
        message: MessageId,
    ) -> Result<Receipt, StoreError> {
        receive(tx, consumer, message).await
    }

    async fn action(
        &self,
        tx: &mut Transaction<'a, Sqlite>,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        pass_action(tx, saga, step).await
    }

    async fn undo(
        &self,
        tx: &mut Transaction<'a, Sqlite>,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        pass_undo(tx, saga, step).await
    }
}

impl Inbox<SqliteTransaction> for SqliteStore {
    async fn receive(
        &self,
        tx: &mut SqliteTransaction,
        consumer: &str,
        message: MessageId,
    ) -> Result<Receipt, StoreError> {
        receive(tx, consumer, message).await
    }

    async fn action(
        &self,
        tx: &mut SqliteTransaction,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        pass_action(tx, saga, step).await
    }

    async fn undo(
        &self,
        tx: &mut SqliteTransaction,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        pass_undo(tx, saga, step).await
    }
}

async fn receive(
    tx: &mut SqliteConnection,
    consumer: &str,
    message: MessageId,
) -> Result<Receipt, StoreError> {
    check_name("consumer", consumer)?;
    let done = sqlx::query(
        "INSERT INTO buttress_inbox (consumer, message) VALUES (?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(consumer)
    .bind(bytes_of_id(message.get()))
    .execute(tx)
    .await
    .map_err(during("receiving a message"))?;
    Ok(if done.rows_affected() == 0 { Receipt::Repeated } else { Receipt::First })
}

async fn pass_action(
    tx: &mut SqliteConnection,
    saga: SagaId,
    step: &str,
) -> Result<Passage, StoreError> {
    check_name("step", step)?;
    let row: (i64, i64) = sqlx::query_as(
        "INSERT INTO buttress_inbox_step (saga, step, state, actions, undos) VALUES (?, ?, 1, 1, 0) \
         ON CONFLICT (saga, step) DO UPDATE SET actions = actions + 1 RETURNING state, actions",
    )
    .bind(bytes_of_id(saga.get()))
    .bind(step)
    .fetch_one(tx)
    .await
    .map_err(during("passing an action"))?;
    action(saga, step, row)
}

async fn pass_undo(
    tx: &mut SqliteConnection,
    saga: SagaId,
    step: &str,
) -> Result<Passage, StoreError> {
    check_name("step", step)?;
    let row: (i64, i64) = sqlx::query_as(
        "INSERT INTO buttress_inbox_step (saga, step, state, actions, undos) VALUES (?, ?, 3, 0, 1) \
         ON CONFLICT (saga, step) DO UPDATE SET undos = undos + 1, \
             state = CASE state WHEN 1 THEN 2 ELSE state END RETURNING state, undos",
    )
    .bind(bytes_of_id(saga.get()))
    .bind(step)
    .fetch_one(tx)
    .await
    .map_err(during("passing an undo"))?;
    undo(saga, step, row)
}
