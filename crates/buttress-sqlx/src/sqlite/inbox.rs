//! The inbox on SQLite.

use buttress_durable::Answer;
use buttress_durable::outbox::{Inbox, MessageId, Receipt};

use super::SqliteStore;
use super::begin::InTransaction;
use super::rows::bytes_of_id;
use crate::bounds::check_name;
use crate::error::during;

/// `Tx` is a [`SqliteTransaction`](crate::SqliteTransaction), or a transaction of sqlx.
impl<Tx: InTransaction> Inbox<Tx> for SqliteStore {
    async fn receive(&self, tx: &mut Tx, consumer: &str, message: MessageId) -> Answer<Receipt> {
        check_name("consumer", consumer)?;
        let done = sqlx::query(
            "INSERT INTO buttress_inbox (consumer, message, received_at) VALUES (?, ?, ?) \
             ON CONFLICT DO NOTHING",
        )
        .bind(consumer)
        .bind(bytes_of_id(message.get()))
        .bind(self.now())
        .execute(tx.connection())
        .await
        .map_err(during("receiving a message"))?;
        Ok(if done.rows_affected() == 0 { Receipt::Repeated } else { Receipt::First })
    }
}
