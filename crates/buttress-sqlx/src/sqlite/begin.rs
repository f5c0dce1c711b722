//! Transactions of users.

use std::fmt;
use std::ops::{Deref, DerefMut};

use buttress::StoreError;
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::SqliteStore;
use super::gate::Turn;
use super::watch::Watch;
use crate::error::{at_file, during};

impl SqliteStore {
    /// Begins a transaction that may read and then write: `BEGIN IMMEDIATE`, when its turn has come
    /// among all that are begun this way on this file in this process, and the store's own writer.
    ///
    /// It has the only right to write until it ends, so nothing slow belongs into it: no step of a
    /// saga, no publishing, no request.
    ///
    /// # Errors
    /// `Transient` if its turn does not come within the acquire timeout, or the database is busy, full
    /// or away. `Misconfigured` if its file cannot be opened or written.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the line.
    pub async fn begin(&self) -> Result<SqliteTransaction, StoreError> {
        self.begin_on(&self.inner.pool).await
    }

    /// As [`begin`](Self::begin), on a pool of your own to the same file.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub async fn begin_on(&self, pool: &SqlitePool) -> Result<SqliteTransaction, StoreError> {
        self.inner.watch.check()?;
        let turn = self.inner.gate.enter(self.inner.config.acquire_timeout).await?;
        // On a task of its own: sqlx leaves the transaction open, and with it the file locked, when its
        // future is dropped between BEGIN and the look at what that did.
        let (begun, receive) = tokio::sync::oneshot::channel();
        let pool = pool.clone();
        self.inner.config.spawner.spawn(async move {
            let tx = pool.begin_with("BEGIN IMMEDIATE").await;
            // If nobody waits any more, it is rolled back here.
            let _ = begun.send((tx, turn));
        });
        let (tx, turn) = receive.await.map_err(|_| {
            StoreError::transient("beginning a transaction: the runtime shuts down")
        })?;
        let tx = tx.map_err(during("beginning a transaction"));
        let tx = tx.map_err(|error| at_file(&self.inner.config.place.path(), error))?;
        Ok(SqliteTransaction { tx, watch: self.inner.watch.clone(), _turn: turn })
    }
}

/// A transaction that has the only right to write, and is rolled back when it is dropped. To be used as
/// the `sqlx::Transaction` it dereferences to: `&mut *tx` is the transaction, `&mut **tx` its
/// connection, which executes queries.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct SqliteTransaction {
    /// Dropped first: whoever comes next finds it rolled back.
    tx: Transaction<'static, Sqlite>,
    watch: Watch,
    _turn: Turn,
}

impl SqliteTransaction {
    /// Makes everything done in it durable, as far as `synchronous` says, and lets others write.
    ///
    /// # Errors
    /// `Transient`: whether it is durable is unknown. `Misconfigured`: the file of the store was deleted,
    /// moved or replaced, and what stands in its place does not have it.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await.map_err(during("committing a transaction"))?;
        self.watch.check()
    }

    /// Undoes everything done in it, and lets others write.
    ///
    /// # Errors
    /// `Transient`: it is rolled back all the same, when the connection is gone.
    pub async fn rollback(self) -> Result<(), StoreError> {
        self.tx.rollback().await.map_err(during("rolling a transaction back"))
    }
}

impl Deref for SqliteTransaction {
    type Target = Transaction<'static, Sqlite>;

    fn deref(&self) -> &Self::Target {
        &self.tx
    }
}

impl DerefMut for SqliteTransaction {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.tx
    }
}

impl fmt::Debug for SqliteTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteTransaction").finish_non_exhaustive()
    }
}
