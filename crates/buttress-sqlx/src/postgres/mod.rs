//! The store in a schema of PostgreSQL.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use buttress::StoreError;
use sqlx::PgPool;

use crate::error::too_slow;
#[cfg(feature = "idempotency")]
use crate::idempotency::ClaimOp;
#[cfg(any(feature = "saga", feature = "idempotency"))]
use crate::queue::Queue;
#[cfg(feature = "saga")]
use crate::saga::LogOp;
#[cfg(feature = "saga")]
use crate::saga::passes::Passes;
use crate::time::within;

#[cfg(feature = "saga")]
mod barrier;
mod connect;
#[cfg(feature = "events")]
mod events;
#[cfg(feature = "idempotency")]
mod idempotency;
#[cfg(feature = "outbox")]
mod inbox;
mod lender;
#[cfg(feature = "outbox")]
mod letters;
mod loan;
#[cfg(feature = "outbox")]
mod outbox;
#[cfg(any(feature = "saga", feature = "outbox"))]
mod receipts;
mod rows;
#[cfg(feature = "saga")]
mod saga;
mod schema;
mod session;
mod sql;
mod users;
#[cfg(any(feature = "saga", feature = "idempotency"))]
mod writer;

pub use connect::PostgresConfig;

use connect::Place;
use lender::Lender;
use loan::Loan;
use sql::{Sql, Statement};
#[cfg(any(feature = "saga", feature = "idempotency"))]
use writer::Writer;

/// A store of sagas, idempotency keys, outbox, inbox, dead letters of consumers, and events in one schema of PostgreSQL
/// 15 or newer.
///
/// It implements the store traits of the [parts](crate#parts) that are switched on.
///
/// Cheap to clone; clones share one store. Any number of stores may use the same schema.
///
/// A task writes the concurrent operations on sagas in one statement, and another task those on
/// idempotency keys. The tasks end with the last clone. The tasks and the pool belong to the
/// runtime in which the store was opened. The database's clock measures time. The server's
/// `synchronous_commit`, on by default, decides when a commit is durable.
///
/// # Cancel safety
/// If a future is dropped, its operation was done completely or not at all. Repeating the operation
/// is safe.
#[derive(Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

struct Inner {
    config: PostgresConfig,
    /// The pool for transactions of the application.
    pool: PgPool,
    /// The connections for operations of the store.
    lender: Lender,
    sql: Sql,
    #[cfg(feature = "saga")]
    logs: Queue<LogOp>,
    #[cfg(feature = "idempotency")]
    claims: Queue<ClaimOp>,
    #[cfg(feature = "saga")]
    passes: Passes,
    partitions: u16,
    /// Set once the order of the events of a restored database is sound.
    #[cfg(feature = "events")]
    mended: tokio::sync::OnceCell<()>,
}

impl PostgresStore {
    /// Connects, creates missing tables, and starts the writers.
    ///
    /// # Errors
    /// Returns `Invalid` for a wrong configuration, or for another number of partitions than the
    /// tables have. Returns `Corrupt` for tables of a later release. Returns `Misconfigured` if the
    /// server refuses the role, the database, or the creation of the tables. Returns `Transient` if
    /// the database cannot be reached.
    pub async fn open(config: PostgresConfig) -> Result<Self, StoreError> {
        config.check().map_err(|error| {
            StoreError::invalid(format!("opening the store: {error}")).with_source(error)
        })?;
        let limit = config.settings.operation_timeout;
        let (pool, lender) = match config.place()? {
            Place::Database(options) => {
                let pool = users::pool(&config, (*options).clone());
                (pool, Lender::of_sessions(&config, *options))
            }
            Place::Pool(pool) => (pool.clone(), Lender::of_pool(&config, pool)),
        };
        let sql = Sql::new(&config.schema, config.clock.clone(), !config.transaction_pooling);
        let prepared =
            within(limit, schema::prepare(&lender, &sql, config.settings.partitions)).await;
        let partitions = prepared.unwrap_or_else(|| Err(too_slow("opening the store", limit)))?;

        let inner = Inner {
            #[cfg(feature = "saga")]
            logs: Writer::start(&config, &sql, &lender),
            #[cfg(feature = "idempotency")]
            claims: Writer::start(&config, &sql, &lender),
            #[cfg(feature = "saga")]
            passes: Passes::default(),
            config,
            pool,
            lender,
            sql,
            partitions,
            #[cfg(feature = "events")]
            mended: tokio::sync::OnceCell::new(),
        };
        let store = Self { inner: Arc::new(inner) };
        #[cfg(feature = "events")]
        store.mend_the_order().await?;
        #[cfg(any(feature = "saga", feature = "outbox"))]
        store.keep_purging_receipts();
        Ok(store)
    }

    /// Opens a store on the application's own `pool`, with the defaults of
    /// [`PostgresConfig::with_pool`].
    ///
    /// That page lists the settings that the pool should have.
    ///
    /// # Errors
    /// Returns the errors of [`open`](Self::open).
    pub async fn on(pool: PgPool) -> Result<Self, StoreError> {
        Self::open(PostgresConfig::with_pool(pool)).await
    }

    /// Returns the pool for transactions of the application: the store's own pool, or the
    /// application's.
    ///
    /// The store's operations do not use the connections of the store's pool. It sets only the timeouts
    /// of the configuration there. It closes a connection that comes back in an open transaction,
    /// in a session that became read-only, or without an answer.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    /// Returns the configuration of the store.
    pub fn config(&self) -> &PostgresConfig {
        &self.inner.config
    }

    /// Returns the number of partitions of the outbox.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.inner.partitions
    }

    /// Closes the store's pool, after the transactions in progress. A pool of the application stays
    /// open. The writers end with the last clone of the store.
    pub async fn close(&self) {
        self.inner.lender.close().await;
        if !self.inner.config.has_users_pool() {
            self.inner.pool.close().await;
        }
    }

    /// Lends a connection for one statement, or for a transaction.
    async fn borrow(&self) -> Result<Loan, StoreError> {
        self.inner.lender.lend().await
    }

    /// Lends a connection whose statements see one state of the database.
    async fn borrow_snapshot(&self) -> Result<Loan, StoreError> {
        self.inner.lender.lend_snapshot().await
    }

    /// Returns the statement of a template.
    fn sql(&self, template: &str) -> Statement {
        self.inner.sql.text(template)
    }

    /// Returns the first parameter of a statement with the time.
    fn time(&self) -> Option<i64> {
        self.inner.sql.time()
    }

    /// Runs `operation` up to the operation timeout.
    async fn bounded<T>(
        &self,
        what: &str,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let limit = self.inner.config.settings.operation_timeout;
        within(limit, operation).await.unwrap_or_else(|| Err(too_slow(what, limit)))
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("schema", &self.inner.sql.schema())
            .field("partitions", &self.inner.partitions)
            .finish_non_exhaustive()
    }
}
