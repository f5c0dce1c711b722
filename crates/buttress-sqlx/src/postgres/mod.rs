//! The store in a schema of PostgreSQL.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use buttress::StoreError;
use buttress_durable::outbox::Store as _;
use sqlx::PgPool;

use crate::claims::ClaimOp;
use crate::error::too_slow;
use crate::log::LogOp;
use crate::passes::Passes;
use crate::queue::{Limits, Queue};
use crate::time::within;

mod barrier;
mod connect;
mod idempotency;
mod inbox;
mod lender;
mod loan;
mod outbox;
mod receipts;
mod rows;
mod saga;
mod schema;
mod session;
mod sql;
mod users;
mod writer;

pub use connect::PostgresConfig;

use connect::Place;
use lender::Lender;
use loan::Loan;
use sql::{Sql, Statement};
use writer::Writer;

/// The most bytes of one batch of a writer, unless one operation alone is larger.
const BATCH_BYTES: usize = 4 << 20;

/// A store of sagas, idempotency keys, outbox and inbox in one schema of PostgreSQL 15 or newer.
///
/// It implements [`saga::Store`](buttress_durable::saga::Store),
/// [`idempotency::Store`](buttress::idempotency::Store) with
/// [`CompleteIn`](buttress::idempotency::CompleteIn),
/// [`outbox::Store`](buttress_durable::outbox::Store) with
/// [`Write`](buttress_durable::outbox::Write), [`Inbox`](buttress_durable::outbox::Inbox), and
/// [`saga::Barrier`](buttress_durable::saga::Barrier).
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
    logs: Queue<LogOp>,
    claims: Queue<ClaimOp>,
    passes: Passes,
    partitions: u16,
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
        let limit = config.operation_timeout;
        let (pool, lender, direct) = match config.place()? {
            Place::Database(options) => {
                let pool = users::pool(&config, (*options).clone());
                (pool, Lender::of_sessions(&config, (*options).clone()), Some(options))
            }
            Place::Pool(pool) => (pool.clone(), Lender::of_pool(&config, pool), None),
        };
        let sql = Sql::new(&config.schema, config.clock.clone(), !config.transaction_pooling);
        let prepared = within(limit, schema::prepare(&lender, &sql, config.partitions)).await;
        let partitions = prepared.unwrap_or_else(|| Err(too_slow("opening the store", limit)))?;

        let limits = Limits { rows: config.batch_rows, bytes: BATCH_BYTES };
        let direct = direct.filter(|_| lender.is_direct());
        let writer = || Writer::new(&config, &sql, direct.as_deref(), &lender);
        let (logs, intake) = Queue::new(config.queue, limit, limits);
        config.spawner.spawn(writer().run(intake));
        let (claims, intake) = Queue::new(config.queue, limit, limits);
        config.spawner.spawn(writer().run(intake));
        let passes = Passes::default();
        let inner = Inner { config, pool, lender, sql, logs, claims, passes, partitions };
        let inner = Arc::new(inner);
        if let Some(age) = inner.config.keep_receipts {
            let weak = Arc::downgrade(&inner);
            inner.config.spawner.spawn(crate::receipts::keep_purging(move |limit| {
                let store = weak.upgrade().map(|inner| Self { inner });
                async move { Some(store?.purge_receipts(age, limit).await) }
            }));
        }
        Ok(Self { inner })
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
        let limit = self.inner.config.operation_timeout;
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
