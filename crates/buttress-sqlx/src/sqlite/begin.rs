//! Transactions of the application.

use std::fmt;
use std::ops::{Deref, DerefMut};

use buttress::StoreError;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::SqliteStore;
use super::gate::Turn;
use super::watch::Watch;
use crate::error::{at_file, during};

impl SqliteStore {
    /// Begins a transaction that may read and then write, with `BEGIN IMMEDIATE`.
    ///
    /// It waits in the queue of all such transactions on this file in this process; the store's own
    /// writer waits there too. The transaction alone may write until it ends. So do nothing slow in
    /// it: no step of a saga, no publishing, no request.
    ///
    /// # Errors
    /// Returns `Transient` if its turn does not come within the acquire timeout, or if the database
    /// is busy, full or unavailable. Returns `Misconfigured` if the file cannot be opened or
    /// written.
    ///
    /// # Cancel safety
    /// If the future is dropped, it leaves the queue.
    pub async fn begin(&self) -> Result<SqliteTransaction, StoreError> {
        self.begin_on(&self.inner.pool).await
    }

    /// Begins a transaction like [`begin`](Self::begin), on your own pool to the same file.
    ///
    /// # Errors
    /// Returns the errors of [`begin`](Self::begin).
    pub async fn begin_on(&self, pool: &SqlitePool) -> Result<SqliteTransaction, StoreError> {
        self.inner.watch.check()?;
        let turn = self.inner.gate.enter(self.inner.config.settings.acquire_timeout).await?;
        // On a separate task: if its future is dropped between BEGIN and the check of its result,
        // sqlx leaves the transaction open and the file locked.
        let (begun, receive) = tokio::sync::oneshot::channel();
        let pool = pool.clone();
        self.inner.config.settings.spawner.spawn(async move {
            let tx = pool.begin_with("BEGIN IMMEDIATE").await;
            // If the caller does not wait any more, the transaction is rolled back here.
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

/// A transaction that alone may write, and that is rolled back when it is dropped.
///
/// It dereferences to `sqlx::Transaction`: `&mut *tx` is the transaction, and `&mut **tx` is its
/// connection, which executes queries.
#[must_use = "a transaction that is dropped is rolled back"]
pub struct SqliteTransaction {
    /// Dropped first, so that the next writer finds the transaction rolled back.
    tx: Transaction<'static, Sqlite>,
    watch: Watch,
    _turn: Turn,
}

impl SqliteTransaction {
    /// Commits the transaction, and lets other transactions write. `synchronous` decides when the
    /// commit is durable.
    ///
    /// # Errors
    /// Returns `Transient` if it is unknown whether the commit is durable. Returns `Misconfigured`
    /// if the file of the store was deleted, moved or replaced: the file at its path then lacks the
    /// commit.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await.map_err(during("committing a transaction"))?;
        self.watch.check()
    }

    /// Rolls the transaction back, and lets other transactions write.
    ///
    /// # Errors
    /// Returns `Transient` if the rollback failed. The end of the connection then rolls the
    /// transaction back.
    pub async fn rollback(self) -> Result<(), StoreError> {
        self.tx.rollback().await.map_err(during("rolling a transaction back"))
    }
}

/// A transaction in which the store can write: one of the store, or one of sqlx.
#[cfg(any(feature = "saga", feature = "outbox", feature = "idempotency", feature = "events"))]
pub(crate) trait InTransaction: Send {
    fn connection(&mut self) -> &mut SqliteConnection;
}

#[cfg(any(feature = "saga", feature = "outbox", feature = "idempotency", feature = "events"))]
impl InTransaction for Transaction<'_, Sqlite> {
    fn connection(&mut self) -> &mut SqliteConnection {
        self
    }
}

#[cfg(any(feature = "saga", feature = "outbox", feature = "idempotency", feature = "events"))]
impl InTransaction for SqliteTransaction {
    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.tx
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
