//! How a store on PostgreSQL is opened.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use buttress::{Clock, InvalidConfig, Spawner, StoreError};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor as _};

/// Where the database is, and how long things may take.
///
/// Built with by-value setters; checked when a store is opened with it.
#[derive(Clone)]
#[must_use]
pub struct PostgresConfig {
    target: Target,
    pub(super) schema: String,
    pub(super) statement_timeout: Duration,
    pub(super) lock_timeout: Duration,
    pub(super) acquire_timeout: Duration,
    pub(super) operation_timeout: Duration,
    pub(super) connections: u32,
    pub(super) partitions: Option<u16>,
    pub(super) results: Option<u64>,
    pub(super) queue: usize,
    pub(super) batch_rows: usize,
    pub(super) clock: Option<Clock>,
    pub(super) spawner: Spawner,
}

#[derive(Clone)]
enum Target {
    Url(String),
    Options(Box<PgConnectOptions>),
}

impl PostgresConfig {
    /// The database at `url`: `postgres://user:password@host:5432/database`.
    pub fn new(url: impl Into<String>) -> Self {
        Self::of(Target::Url(url.into()))
    }

    /// The database that `options` name.
    pub fn with_options(options: PgConnectOptions) -> Self {
        Self::of(Target::Options(Box::new(options)))
    }

    fn of(target: Target) -> Self {
        Self {
            target,
            schema: "public".to_owned(),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(10),
            operation_timeout: Duration::from_secs(15),
            connections: 8,
            partitions: None,
            results: None,
            queue: 1024,
            batch_rows: 1024,
            clock: None,
            spawner: Spawner::default(),
        }
    }

    /// The schema of the tables, which is created if it is not there. Defaults to `public`.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// How long the server works on one statement of the store. Defaults to 10 s.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// How long a statement of the store waits for a row that somebody else is changing. Defaults to
    /// 5 s; the store's own transactions take milliseconds.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// How long anybody waits for a connection of the pool. Defaults to 10 s.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// How long an operation of the store may take in all, before it is answered with a transient error
    /// and its connection is closed. Defaults to 15 s, because it may hold the waits before it.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// The most connections of the store's pool. The two writers have one each of their own. Defaults
    /// to 8.
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// Into how many partitions the outbox is divided: the most relays that can share the work.
    /// Fixed when the tables are created, with 16 unless said here; opening them with another number is
    /// refused.
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// How many results of idempotency keys are kept: sweeping removes those beyond it, those that would
    /// expire first before the others, never claims in flight. Unlimited unless said, because a key whose
    /// result is gone runs again: what bounds a database is how long results live.
    pub fn results(mut self, most: u64) -> Self {
        self.results = Some(most);
        self
    }

    /// How many operations may wait for each writer. Defaults to 1024; who finds no place waits for one.
    pub fn queue(mut self, operations: usize) -> Self {
        self.queue = operations;
        self
    }

    /// The most rows a writer puts into one batch. Defaults to 1024, some milliseconds.
    pub fn batch_rows(mut self, rows: usize) -> Self {
        self.batch_rows = rows;
        self
    }

    /// For tests: the wall time of `clock` in place of the database's. In production all processes must
    /// share one clock, which is why the database's is the default.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Where the writers run. Defaults to tokio. sqlx needs a tokio runtime in any case.
    pub fn spawner(mut self, spawner: Spawner) -> Self {
        self.spawner = spawner;
        self
    }

    pub(super) fn connect_options(&self) -> Result<PgConnectOptions, StoreError> {
        match &self.target {
            Target::Options(options) => Ok((**options).clone()),
            Target::Url(url) => PgConnectOptions::from_str(url).map_err(|error| {
                // The text may hold a password: the error of sqlx does not repeat it.
                StoreError::invalid(format!("opening the store: url: {error}")).with_source(error)
            }),
        }
    }

    pub(super) fn pool_options(&self) -> PgPoolOptions {
        let setup = self.setup();
        PgPoolOptions::new()
            .max_connections(self.connections)
            .acquire_timeout(self.acquire_timeout)
            .after_connect(move |connection, _| {
                let setup = setup.clone();
                Box::pin(async move { prepare(connection, setup).await })
            })
    }

    /// What every connection of the store is told first.
    ///
    /// The tables are queues: what they hold changes faster than the statistics over them, so the
    /// planner is kept to indexes, and from compiling statements that take a millisecond.
    pub(super) fn setup(&self) -> Arc<str> {
        let setup = format!(
            "SET statement_timeout = {}; SET lock_timeout = {}; \
             SET idle_in_transaction_session_timeout = {}; \
             SET default_transaction_isolation = 'read committed'; \
             SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off",
            self.statement_timeout.as_millis(),
            self.lock_timeout.as_millis(),
            self.operation_timeout.as_millis(),
        );
        setup.into()
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        for (field, value) in [
            ("statement-timeout", self.statement_timeout),
            ("lock-timeout", self.lock_timeout),
            ("acquire-timeout", self.acquire_timeout),
            ("operation-timeout", self.operation_timeout),
        ] {
            if value < Duration::from_millis(1) || value > Duration::from_secs(3600) {
                let value = format!("{value:?}");
                return Err(InvalidConfig::new(field, value, "between 1 ms and an hour"));
            }
        }
        let counts = [
            ("connections", self.connections as usize),
            ("queue", self.queue),
            ("batch-rows", self.batch_rows),
            ("results", self.results.map_or(1, |most| usize::try_from(most).unwrap_or(usize::MAX))),
        ];
        for (field, value) in counts {
            if value == 0 {
                return Err(InvalidConfig::new(field, value, "at least 1"));
            }
        }
        if self.schema.is_empty() || self.schema.len() > 63 || self.schema.contains('\0') {
            let bound = "between 1 and 63 bytes, without U+0000";
            return Err(InvalidConfig::new("schema", &self.schema, bound));
        }
        crate::partitions::check(self.partitions)
    }
}

impl fmt::Debug for PostgresConfig {
    /// Without the target, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Tells a connection what [`PostgresConfig::setup`] says.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    setup: Arc<str>,
) -> Result<(), sqlx::Error> {
    connection.execute(AssertSqlSafe(setup)).await.map(drop)
}
