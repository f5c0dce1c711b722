//! The stores in a schema of PostgreSQL.

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

mod connect;
mod idempotency;
mod inbox;
mod lender;
mod loan;
mod outbox;
mod rows;
mod saga;
mod schema;
mod sql;
mod users;
mod writer;

pub use connect::PostgresConfig;

use connect::Place;
use lender::Lender;
use loan::Loan;
use sql::{Sql, Statement};
use writer::Writer;

/// The most bytes a writer puts into one batch, unless one operation alone is larger.
const BATCH_BYTES: usize = 4 << 20;

/// Sagas, idempotency keys, outbox and inbox in one schema of PostgreSQL 15 or newer.
///
/// It implements [`saga::Store`](buttress_durable::saga::Store), [`idempotency::Store`](buttress::idempotency::Store)
/// with [`CompleteIn`](buttress::idempotency::CompleteIn), [`outbox::Store`](buttress_durable::outbox::Store)
/// with [`Write`](buttress_durable::outbox::Write), and [`Inbox`](buttress_durable::outbox::Inbox). Cheap to clone;
/// clones are the same store. Any number of stores may use the same schema.
///
/// What its callers ask of sagas, or of idempotency keys, at the same time is written by one statement,
/// by a task that ends with the last clone. The tasks and the pool belong to the runtime the store was
/// opened in. Time is the database's.
///
/// What a commit waits for is for the server to say (`synchronous_commit`, on by default).
///
/// # Cancel safety
/// A future that is dropped leaves an operation that was done or was not, never half of one. Repeating
/// it is safe.
#[derive(Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

struct Inner {
    config: PostgresConfig,
    /// Where transactions of the application run.
    pool: PgPool,
    /// Where operations of the store run.
    lender: Lender,
    sql: Sql,
    logs: Queue<LogOp>,
    claims: Queue<ClaimOp>,
    passes: Passes,
    partitions: u16,
}

impl PostgresStore {
    /// Connects, creates what is not there yet, and starts the writers.
    ///
    /// # Errors
    /// `Invalid` for a configuration that cannot work, and for another number of partitions than the
    /// tables were created with. `Corrupt` for tables of a later version. `Misconfigured` if the server
    /// refuses the role, the database, or the creation of the tables. `Transient` if the database cannot
    /// be reached.
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

    /// Opens a store on the application's own `pool`: [`open`](Self::open) with
    /// [`PostgresConfig::with_pool`], whose page says what the pool should have.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn on(pool: PgPool) -> Result<Self, StoreError> {
        Self::open(PostgresConfig::with_pool(pool)).await
    }

    /// The pool on which transactions of the application run: the store's, or the application's own that
    /// the store was opened on.
    ///
    /// The store's operations do not use the connections of its pool, and set nothing there but the
    /// timeouts of the configuration. A connection that comes back in an open transaction, in a session that
    /// became read-only, or without an answer, is closed and not lent again.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    /// What the store was opened with.
    pub fn config(&self) -> &PostgresConfig {
        &self.inner.config
    }

    /// Into how many partitions the outbox is divided.
    #[must_use]
    pub fn partitions(&self) -> u16 {
        self.inner.partitions
    }

    /// Closes the store's pool, after the transactions that are under way. A pool of the application stays
    /// open. The writers end with the last clone of the store.
    pub async fn close(&self) {
        self.inner.lender.close().await;
        if !self.inner.config.has_users_pool() {
            self.inner.pool.close().await;
        }
    }

    /// A connection for one statement, or for a transaction.
    async fn borrow(&self) -> Result<Loan, StoreError> {
        self.inner.lender.lend().await
    }

    /// A connection whose statements see one state of the database.
    async fn borrow_snapshot(&self) -> Result<Loan, StoreError> {
        self.inner.lender.lend_snapshot().await
    }

    /// The statement of a template.
    fn sql(&self, template: &str) -> Statement {
        self.inner.sql.text(template)
    }

    /// The first parameter of a statement that asks for the time.
    fn time(&self) -> Option<i64> {
        self.inner.sql.time()
    }

    /// `operation`, if it does not take too long.
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
