//! The inbox on SQLite.

use buttress::StoreError;
use buttress_durable::outbox::{Inbox, MessageId, Receipt};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Sqlite, Transaction};

use super::rows::bytes_of_id;
use super::{SqliteStore, SqliteTransaction};
use crate::bounds::check_name;
use crate::error::during;

impl<'a> Inbox<Transaction<'a, Sqlite>> for SqliteStore {
    async fn receive(
        &self,
        tx: &mut Transaction<'a, Sqlite>,
        consumer: &str,
        message: MessageId,
    ) -> Result<Receipt, StoreError> {
        receive(tx, self.now(), consumer, message).await
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
