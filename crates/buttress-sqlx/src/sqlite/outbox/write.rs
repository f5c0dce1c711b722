//! Writing messages inside a transaction of the user's.

use buttress_durable::Answer;
use buttress_durable::outbox::{NewMessage, Write};

use crate::bounds::check_message;
use crate::error::during;
use crate::headers;
use crate::outbox::status::{DELAYED, PENDING};
use crate::sqlite::SqliteStore;
use crate::sqlite::begin::InTransaction;
use crate::sqlite::rows::bytes_of_id;
use crate::time::{after, nanos};

/// `Tx` is a [`SqliteTransaction`](crate::SqliteTransaction), or a transaction of sqlx.
impl<Tx: InTransaction> Write<Tx> for SqliteStore {
    async fn write(&self, tx: &mut Tx, message: &NewMessage) -> Answer<()> {
        check_message(message)?;
        let (now, id) = (self.now(), message.id);
        sqlx::query(
            "INSERT INTO buttress_outbox (id, partition, key, topic, payload, headers, status, \
             due_at, length) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(bytes_of_id(id.get()))
        .bind(i64::from(NewMessage::partition(&message.key, self.partitions())))
        .bind(&message.key)
        .bind(&message.topic)
        .bind(&message.payload)
        .bind(headers::encode(&message.headers))
        .bind(if message.delay.is_zero() { PENDING } else { DELAYED })
        .bind(after(now, message.delay))
        .bind(nanos(message.delay))
        .execute(tx.connection())
        .await
        .map(drop)
        .map_err(during(&format!("writing message {id}")))
    }

    /// Does nothing, because a writing transaction of SQLite locks the whole file. Begin with
    /// [`begin`](SqliteStore::begin), or `BEGIN IMMEDIATE`, so that the transaction has the lock
    /// from the start.
    async fn lock_key(&self, _tx: &mut Tx, _key: &str) -> Answer<()> {
        Ok(())
    }
}
