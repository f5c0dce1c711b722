//! The stores in a schema of PostgreSQL.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use buttress::StoreError;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};

use crate::claims::ClaimOp;
use crate::error::{during, too_slow};
use crate::log::LogOp;
use crate::passes::Passes;
use crate::queue::{Limits, Queue};
use crate::time::within;

mod connect;
mod idempotency;
mod inbox;
mod loan;
mod outbox;
mod rows;
mod saga;
mod schema;
mod sql;
mod writer;

pub use connect::PostgresConfig;

use loan::Loan;
use sql::Sql;
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
    pool: PgPool,
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
        let options = config.connect_options()?;
        let setup = config.setup();
        let sql = Sql::new(&config.schema, config.clock.clone());
        let limit = config.operation_timeout;
        let prepared = schema::prepare(&options, Arc::clone(&setup), &sql, config.partitions);
        let partitions = within(limit, prepared).await;
        let partitions = partitions.unwrap_or_else(|| Err(too_slow("opening the store", limit)))?;

        let limits = Limits { rows: config.batch_rows, bytes: BATCH_BYTES };
        let writer = || Writer {
            options: options.clone(),
            setup: Arc::clone(&setup),
            sql: sql.clone(),
            operation_timeout: limit,
            connection: None,
        };
        let (logs, intake) = Queue::new(config.queue, limit, limits);
        config.spawner.spawn(writer().run(intake));
        let (claims, intake) = Queue::new(config.queue, limit, limits);
        config.spawner.spawn(writer().run(intake));
        let pool = config.pool_options().connect_lazy_with(options);
        let passes = Passes::default();
        Ok(Self { inner: Arc::new(Inner { config, pool, sql, logs, claims, passes, partitions }) })
    }

    /// The store's pool.
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

    /// Begins a transaction on the store's pool. One of any other pool to the same database does as
    /// well.
    ///
    /// # Errors
    /// `Transient` if there is no connection within the acquire timeout. `Misconfigured` if the server
    /// refuses the role or the database.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.inner.pool.begin().await.map_err(during("beginning a transaction"))
    }

    /// Closes the pool, after the transactions that are under way. The writers end with the last clone
    /// of the store.
    pub async fn close(&self) {
        self.inner.pool.close().await;
    }

    /// A connection of the pool.
    async fn borrow(&self) -> Result<Loan, StoreError> {
        self.inner.pool.acquire().await.map(Loan::new).map_err(during("connecting"))
    }

    /// The statement of a template.
    fn sql(&self, template: &str) -> AssertSqlSafe<String> {
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
