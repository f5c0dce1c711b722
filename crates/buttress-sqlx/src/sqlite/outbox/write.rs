//! Writing messages inside a transaction of the user's.

use buttress::StoreError;
use buttress_durable::outbox::{NewMessage, Write};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Sqlite, Transaction};

use crate::bounds::check_message;
use crate::error::during;
use crate::headers;
use crate::relaying::status::{DELAYED, PENDING};
use crate::sqlite::rows::bytes_of_id;
use crate::sqlite::{SqliteStore, SqliteTransaction};
use crate::time::{after, nanos};

impl<'a> Write<Transaction<'a, Sqlite>> for SqliteStore {
    async fn write(
        &self,
        tx: &mut Transaction<'a, Sqlite>,
        message: &NewMessage,
    ) -> Result<(), StoreError> {
        self.write_message(tx, message).await
    }

    /// Does nothing, because a writing transaction of SQLite locks the whole file. Begin with
    /// [`begin`](SqliteStore::begin), or `BEGIN IMMEDIATE`, so that the transaction has the lock
    /// from the start.
    async fn lock_key(
        &self,
        _tx: &mut Transaction<'a, Sqlite>,
        _key: &str,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Write<SqliteTransaction> for SqliteStore {
    async fn write(
        &self,
        tx: &mut SqliteTransaction,
        message: &NewMessage,
    ) -> Result<(), StoreError> {
        self.write_message(tx, message).await
    }

    async fn lock_key(&self, _tx: &mut SqliteTransaction, _key: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

impl SqliteStore {
    async fn write_message(
        &self,
        tx: &mut SqliteConnection,
        message: &NewMessage,
    ) -> Result<(), StoreError> {
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
        .execute(tx)
        .await
        .map(drop)
        .map_err(during(&format!("writing message {id}")))
    }
}
