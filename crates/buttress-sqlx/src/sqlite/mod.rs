//! The store in a file of SQLite.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use buttress::{Clock, StoreError};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnection;

use crate::error::{at_file, too_slow};
use crate::queue::{Job, Queue};
#[cfg(feature = "saga")]
use crate::saga::passes::Passes;
use crate::time::{nanos, within};

#[cfg(feature = "saga")]
mod barrier;
mod begin;
mod connect;
#[cfg(feature = "events")]
mod events;
mod gate;
#[cfg(feature = "idempotency")]
mod idempotency;
#[cfg(feature = "outbox")]
mod inbox;
#[cfg(feature = "outbox")]
mod letters;
#[cfg(feature = "outbox")]
mod outbox;
mod pack;
mod place;
#[cfg(any(feature = "saga", feature = "outbox"))]
mod receipts;
#[cfg(feature = "outbox")]
mod relaying;
mod rows;
#[cfg(feature = "saga")]
mod saga;
mod schema;
mod values;
mod watch;
mod writer;

pub use begin::SqliteTransaction;
pub use connect::{SqliteConfig, Synchronous};

use gate::Gate;
use place::{Held, Place};
use schema::Prepared;
use watch::Watch;
use writer::{WriteOp, Writer};

/// A store of sagas, idempotency keys, outbox, inbox, dead letters of consumers, and events in one file of SQLite, or in
/// memory.
///
/// It implements the store traits of the [parts](crate#parts) that are switched on.
///
/// Cheap to clone; clones share one store. Several stores, in one process or in many, may open the
/// same file.
///
/// A task writes the operations of concurrent callers in one transaction. It ends when the last
/// clone of the store is dropped. The task and the pool belong to the runtime in which the store was opened.
///
/// # Cancel safety
/// If a future is dropped, its operation was done completely or not at all. Repeating the operation
/// is safe.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    config: SqliteConfig,
    pool: SqlitePool,
    gate: Gate,
    queue: Queue<WriteOp>,
    #[cfg(feature = "saga")]
    passes: Passes,
    partitions: u16,
    watch: Watch,
    /// Keeps a database in memory alive between two connections, and keeps the system from reusing
    /// the inode of a file.
    _keeper: SqliteConnection,
    /// Dropped with the last clone.
    _held: Option<Held>,
}

impl SqliteStore {
    /// Opens the file, creates missing tables, and starts the writer.
    ///
    /// # Errors
    /// Returns `Invalid` for a wrong configuration, such as the path `:memory:`, or for another
    /// number of partitions than the file has. Returns `Corrupt` for a file that is not a database,
    /// or that a later release wrote. Returns `Misconfigured` for a file that cannot be opened or
    /// written. Returns `Transient` if another process keeps the file locked.
    pub async fn open(config: SqliteConfig) -> Result<Self, StoreError> {
        config.check().map_err(|error| {
            StoreError::invalid(format!("opening the store: {error}")).with_source(error)
        })?;
        let held = match &config.place {
            Place::Memory(memory) => Some(memory.hold()),
            Place::File(_) => None,
        };
        let gate = Gate::of(&config.place);
        // Only the first connection creates the file.
        let (first, options) = (config.options(true), config.options(false));
        let turn = gate.enter(config.settings.acquire_timeout).await?;
        let prepared =
            schema::prepare(&first, config.settings.partitions, config.settings.acquire_timeout);
        let prepared =
            within(config.settings.acquire_timeout + config.settings.operation_timeout, prepared)
                .await;
        let prepared = prepared
            .unwrap_or_else(|| {
                Err(too_slow("opening the store", config.settings.operation_timeout))
            })
            .map_err(|error| at_file(&config.place.path(), error))?;
        let Prepared { partitions, connection, file } = prepared;
        if file.is_empty() && held.is_none() {
            let what = format!(
                "opening the store: SQLite keeps \"{}\" in no file; for a database in memory use \
                 SqliteConfig::in_memory()",
                config.place.path().display()
            );
            return Err(StoreError::invalid(what));
        }
        let watch = Watch::of(&config.place, &file)?;
        drop(turn);

        let queue = Writer::start(&config, &gate, &watch);
        let pool = config.pool_options().connect_lazy_with(options);
        let inner = Arc::new(Inner {
            config,
            pool,
            gate,
            queue,
            #[cfg(feature = "saga")]
            passes: Passes::default(),
            partitions,
            watch,
            _keeper: connection,
            _held: held,
        });
        let store = Self { inner };
        #[cfg(any(feature = "saga", feature = "outbox"))]
        store.keep_purging_receipts();
        Ok(store)
    }

    /// Returns the store's pool, for reading. To write, use [`begin`](Self::begin).
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.inner.pool
    }

    /// Returns the configuration of the store.
    pub fn config(&self) -> &SqliteConfig {
        &self.inner.config
    }

    /// Returns the number of partitions of the outbox.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.inner.partitions
    }

    /// Returns the clock whose wall time is stored.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.config.clock
    }

    /// Closes the pool, after the transactions in progress. The writer ends with the last clone of
    /// the store.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    /// Returns the wall time in the form of the rows.
    fn now(&self) -> i64 {
        nanos(self.inner.config.clock.unix())
    }

    /// Hands an operation to the writer, and waits for its answer.
    async fn submit<I: Send, R: Send>(
        &self,
        what: &'static str,
        input: I,
        wrap: impl FnOnce(Job<I, R>) -> WriteOp + Send,
    ) -> Result<R, StoreError> {
        let answer = self.inner.queue.submit(what, input, wrap).await;
        answer.map_err(|error| at_file(&self.inner.config.place.path(), error))
    }

    /// Runs `operation` up to the operation timeout, on the file that was opened.
    async fn bounded<T>(
        &self,
        what: &str,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit: Duration = self.inner.config.settings.operation_timeout;
        self.inner.watch.check()?;
        let answer = within(limit, operation).await;
        let answer = answer.unwrap_or_else(|| Err(too_slow(what, limit)));
        // A result may come from a file that is not at the path any more. An error of this check is the
        // cause of all other errors, so it comes first.
        self.inner.watch.check()?;
        answer.map_err(|error| at_file(&self.inner.config.place.path(), error))
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.inner.config.place.path())
            .field("partitions", &self.inner.partitions)
            .finish_non_exhaustive()
    }
}
