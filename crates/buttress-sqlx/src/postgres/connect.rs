//! The configuration of a store on PostgreSQL.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use buttress::{Clock, InvalidConfig, StoreError};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

use crate::settings::{Settings, common_setters, setters};

/// The configuration of a [`PostgresStore`](super::PostgresStore): its database, and its time
/// limits.
///
/// Setters take and return the value. [`PostgresStore::open`](super::PostgresStore::open) checks
/// the values.
#[derive(Clone)]
#[must_use]
pub struct PostgresConfig {
    target: Target,
    pub(super) schema: String,
    pub(super) statement_timeout: Duration,
    pub(super) lock_timeout: Duration,
    pub(super) transaction_pooling: bool,
    pub(super) clock: Option<Clock>,
    pub(super) settings: Settings,
}

#[derive(Clone)]
enum Target {
    Url(String),
    Options(Box<PgConnectOptions>),
    Pool(PgPool),
}

/// The source of a store's connections.
pub(super) enum Place {
    Database(Box<PgConnectOptions>),
    Pool(PgPool),
}

impl PostgresConfig {
    /// Creates a configuration for the database at `url`, e.g.
    /// `postgres://user:password@host:5432/database`.
    pub fn new(url: impl Into<String>) -> Self {
        Self::of(Target::Url(url.into()))
    }

    /// Creates a configuration for the database of `options`.
    pub fn with_options(options: PgConnectOptions) -> Self {
        Self::of(Target::Options(Box::new(options)))
    }

    /// Creates a configuration for the application's own `pool`, in place of the store's pools and
    /// connections.
    ///
    /// The store sets nothing on the pool's sessions, and does not close the pool. It runs each
    /// operation in a transaction that begins with `SET LOCAL`. So an operation takes two round
    /// trips more than on the store's own sessions. [`connections`](Self::connections) and
    /// [`acquire_timeout`](Self::acquire_timeout) of this configuration have no effect, because the
    /// pool has its own values.
    ///
    /// The pool should have:
    /// - `acquire_timeout` shorter than [`operation_timeout`](Self::operation_timeout).
    /// - More connections than concurrent transactions of the application that call the store's own
    ///   operations inside. Each such call takes a second connection. The two writers take one each
    ///   while they write.
    /// - `test_before_acquire`, which is on by default. Otherwise an operation can fail on a
    ///   connection that the server has ended.
    /// - `lock_timeout` for its sessions, by `after_connect` or for the role. It bounds how long
    ///   the server waits in [`lock_key`](buttress_durable::outbox::Write::lock_key).
    /// - `idle_in_transaction_session_timeout` for its sessions. It ends the transactions of a
    ///   client that disappeared.
    /// - `before_acquire` and `after_release`, with a time limit inside. They find silently dead
    ///   connections, sessions that became read-only, and transactions that were left open on a
    ///   session. The store's own pool has both. The store itself refuses a pooled connection that
    ///   is in a transaction, and closes it.
    pub fn with_pool(pool: PgPool) -> Self {
        Self::of(Target::Pool(pool))
    }

    fn of(target: Target) -> Self {
        Self {
            target,
            schema: "public".to_owned(),
            statement_timeout: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(5),
            transaction_pooling: false,
            clock: None,
            settings: Settings::new(8, 1024),
        }
    }

    setters! {
        /// Sets the schema of the tables. The store creates the schema if it does not exist. Default:
        /// `public`. Between 1 and 63 bytes.
        schema(schema: impl Into<String>) => schema.into();

        /// Sets how long the server may work on one statement of the store. Default: 10 s. Between 1 ms
        /// and 1 hour.
        statement_timeout(timeout: Duration);

        /// Sets how long a statement of the store waits for a row that another transaction is changing.
        /// Default: 5 s. Between 1 ms and 1 hour.
        ///
        /// The store's own transactions take milliseconds.
        lock_timeout(timeout: Duration);

        /// Sets how long a caller waits for a connection. Default: 10 s. Between 1 ms and 1 hour.
        acquire_timeout(timeout: Duration) sets settings.acquire_timeout;

        /// Sets how long an operation of the store may take, with all its waits. Default: 15 s. Between
        /// 1 ms and 1 hour.
        ///
        /// After this time the store returns a transient error and closes the connection of the
        /// operation. The default is longer than the waits for a connection and for a lock.
        ///
        /// The limit also bounds each call of the store in a transaction of the application. Such a
        /// transaction can then only be rolled back or dropped.
        operation_timeout(timeout: Duration) sets settings.operation_timeout;

        /// Sets the most connections of the store's pool, on which transactions of the application run.
        /// Default: 8. At least 1.
        ///
        /// The store's own operations use up to as many connections more, with their own settings. The
        /// two writers use one each. Connections are opened when they are needed.
        ///
        /// The pool checks a connection before it lends it and when it comes back, each time for a
        /// bounded time. It replaces a connection that does not answer. One case remains: sqlx checks a
        /// connection that comes back once more, without a bound. If its socket dies silently in the
        /// round trip between the two checks, the connection keeps its place until the operating system
        /// closes the socket. `net.ipv4.tcp_retries2` bounds that time on Linux: 15 minutes by default,
        /// 30 seconds with a value of 8.
        connections(connections: u32) sets settings.connections;

        /// Sets whether a connection pooler, such as PgBouncer with `pool_mode=transaction`, assigns a
        /// server connection per transaction. Default: off.
        ///
        /// The store then uses no named statements and no state of a session. Each operation runs in a
        /// transaction that begins with `SET LOCAL`, so it takes two round trips more.
        /// [`PostgresStore::begin`](super::PostgresStore::begin) sets the timeouts in this way too. The
        /// application must also send its statements without a name:
        /// `sqlx::query(..).persistent(false)`.
        ///
        /// PgBouncer needs `ignore_startup_parameters=extra_float_digits`, because sqlx sends that
        /// parameter.
        transaction_pooling(pooling: bool);

        /// Sets how many operations may wait for each writer. Default: 1024. At least 1. Further
        /// callers wait for a place.
        queue(operations: usize) sets settings.queue;

        /// Sets the most rows of one batch of a writer. Default: 1024, which takes a few milliseconds.
        /// At least 1.
        batch_rows(rows: usize) sets settings.batch_rows;

        /// Sets the source of wall time, for tests. Default: the database's clock.
        ///
        /// In production all processes must share one clock, and the database's clock is shared.
        clock(clock: Clock) => Some(clock);
    }

    common_setters!();

    pub(super) fn place(&self) -> Result<Place, StoreError> {
        match &self.target {
            Target::Pool(pool) => Ok(Place::Pool(pool.clone())),
            Target::Options(options) => Ok(Place::Database(options.clone())),
            Target::Url(url) => {
                PgConnectOptions::from_str(url).map(Box::new).map(Place::Database).map_err(
                    |error| {
                        // The text may hold a password. The error of sqlx does not repeat it.
                        StoreError::invalid(format!("opening the store: url: {error}"))
                            .with_source(error)
                    },
                )
            }
        }
    }

    /// Returns how long a connection that was idle, or comes back, may take to answer.
    pub(super) fn patience(&self) -> Duration {
        self.settings.acquire_timeout.min(self.settings.operation_timeout) / 4
    }

    /// Whether the pool is the application's own.
    pub(super) const fn has_users_pool(&self) -> bool {
        matches!(self.target, Target::Pool(_))
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        let limits =
            [("statement-timeout", self.statement_timeout), ("lock-timeout", self.lock_timeout)];
        self.settings.check(&limits, (Duration::from_millis(1), "between 1 ms and an hour"))?;
        if self.schema.is_empty() || self.schema.len() > 63 || self.schema.contains('\0') {
            let bound = "between 1 and 63 bytes, without U+0000";
            return Err(InvalidConfig::new("schema", &self.schema, bound));
        }
        Ok(())
    }
}

impl fmt::Debug for PostgresConfig {
    /// Leaves out the target, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_gets_a_part_of_the_shorter_wait() {
        let config = PostgresConfig::new("x");
        assert_eq!(config.patience(), Duration::from_millis(2500));
        let config = config.operation_timeout(Duration::from_millis(800));
        assert_eq!(config.patience(), Duration::from_millis(200));
    }
}
