//! How a store on PostgreSQL is opened.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use buttress::{Clock, InvalidConfig, Spawner, StoreError};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgPool};

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
    pub(super) transaction_pooling: bool,
    pub(super) partitions: Option<u16>,
    pub(super) results: Option<u64>,
    pub(super) keep_receipts: Option<Duration>,
    pub(super) queue: usize,
    pub(super) batch_rows: usize,
    pub(super) clock: Option<Clock>,
    pub(super) spawner: Spawner,
}

#[derive(Clone)]
enum Target {
    Url(String),
    Options(Box<PgConnectOptions>),
    Pool(PgPool),
}

/// Where a store gets its connections.
pub(super) enum Place {
    Database(Box<PgConnectOptions>),
    Pool(PgPool),
}

/// Keeps the planner to indexes, because the tables are queues: what they hold changes faster than the
/// statistics over them. And keeps it from compiling statements that take a millisecond.
const PLANNER: [(&str, &str); 3] =
    [("enable_seqscan", "off"), ("enable_bitmapscan", "off"), ("jit", "off")];

/// True in a transaction that this very message began: its time is the message's.
pub(super) const IS_FRESH: &str = "SELECT now() = statement_timestamp()";

impl PostgresConfig {
    /// The database at `url`: `postgres://user:password@host:5432/database`.
    pub fn new(url: impl Into<String>) -> Self {
        Self::of(Target::Url(url.into()))
    }

    /// The database that `options` name.
    pub fn with_options(options: PgConnectOptions) -> Self {
        Self::of(Target::Options(Box::new(options)))
    }

    /// The application's own `pool`, in place of pools and connections of the store.
    ///
    /// The store sets nothing on the pool's sessions, and does not close the pool. It runs each operation in
    /// a transaction, which begins with `SET LOCAL` for what the operation needs. So an operation takes
    /// two round trips more than on the store's own sessions. Of this configuration, only
    /// [`connections`](Self::connections) and [`acquire_timeout`](Self::acquire_timeout) have no effect:
    /// the pool has its own.
    ///
    /// What the pool should have:
    /// - `acquire_timeout` shorter than [`operation_timeout`](Self::operation_timeout).
    /// - More connections than transactions of the application that call the store's own operations inside:
    ///   each such call takes a second connection. The two writers take one each while they write.
    /// - `test_before_acquire`, which is on by default: otherwise an operation can fail on a connection that
    ///   the server has ended.
    /// - For sessions, by `after_connect` or for the role: `lock_timeout`, which bounds how long the server
    ///   waits in [`lock_key`](buttress_durable::outbox::Write::lock_key), and
    ///   `idle_in_transaction_session_timeout`, which ends the transactions of a client that disappeared.
    /// - For silently dead connections, sessions that became read-only, and transactions that were left open
    ///   on a session: `before_acquire` and `after_release`, with a time limit inside. The store's own pool
    ///   has both. The store itself refuses a pooled connection that is in a transaction, and closes it.
    pub fn with_pool(pool: PgPool) -> Self {
        Self::of(Target::Pool(pool))
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
            transaction_pooling: false,
            partitions: None,
            results: None,
            keep_receipts: crate::receipts::KEPT,
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

    /// How long a caller waits for a connection. Defaults to 10 s.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// How long an operation of the store may take in all, before it is answered with a transient error
    /// and its connection is closed. Defaults to 15 s, because it may hold the waits before it.
    ///
    /// It also bounds each call of the store in a transaction of the application. Such a transaction can
    /// then only be rolled back or dropped.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// The most connections of the store's pool, on which transactions of the application run. Defaults
    /// to 8. The store's own operations have up to as many apart, with settings of their own, and the two
    /// writers one each. All are made when they are needed.
    ///
    /// The pool looks at a connection before it lends it and when it comes back, each time for a bounded time, and
    /// replaces one that does not answer. One case is left: sqlx asks a connection that comes back once more,
    /// without a bound. If its socket dies silently between the two questions, a round trip apart, the connection
    /// keeps its place until the operating system gives the socket up. `net.ipv4.tcp_retries2` bounds that time on
    /// Linux: 15 minutes by default, 30 seconds with a value of 8.
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// Whether a pooler stands in between that lends a server's session for one transaction at a time, such
    /// as PgBouncer with `pool_mode=transaction`. Defaults to false.
    ///
    /// The store then uses no named statements and no state of a session: each operation runs in a
    /// transaction, which begins with `SET LOCAL` for what the operation needs. So an operation takes two
    /// round trips more. [`PostgresStore::begin`](super::PostgresStore::begin) sets the timeouts in the
    /// same way. Statements of the application have to be sent without a name as well:
    /// `sqlx::query(..).persistent(false)`.
    ///
    /// PgBouncer needs `ignore_startup_parameters=extra_float_digits`, because sqlx sends that.
    pub fn transaction_pooling(mut self, pooling: bool) -> Self {
        self.transaction_pooling = pooling;
        self
    }

    /// Into how many partitions the outbox is divided: the most relays that can share the work.
    /// Fixed when the tables are created, with 16 unless said here; opening them with another number is
    /// refused.
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// How many results of idempotency keys are kept. Sweeping removes those beyond it, from the scopes that
    /// have the most, and of each scope those that expire first; never claims in flight. So one caller
    /// with many keys loses its own results and not those of others. Unlimited by default, because a key
    /// whose result is gone runs **again**: what bounds a database is how long results live.
    pub fn results(mut self, most: u64) -> Self {
        self.results = Some(most);
        self
    }

    /// How long receipts and barriers of the [inbox](buttress_durable::outbox::Inbox) are kept. Default: 30
    /// days. `None` keeps them forever. At least 1 second. The store removes older ones in the background.
    ///
    /// A message that is delivered again later than that, and an action of a saga that is called again later
    /// than that, runs again. Keep receipts for longer than any sender repeats: for a relay that is
    /// [`Config::longest_retry`](buttress_durable::outbox::Config::longest_retry) and the longest time that a
    /// dead letter waits before an operator requeues it.
    pub fn keep_receipts(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.keep_receipts = time.into();
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

    pub(super) fn place(&self) -> Result<Place, StoreError> {
        match &self.target {
            Target::Pool(pool) => Ok(Place::Pool(pool.clone())),
            Target::Options(options) => Ok(Place::Database(options.clone())),
            Target::Url(url) => {
                PgConnectOptions::from_str(url).map(Box::new).map(Place::Database).map_err(
                    |error| {
                        // The text may hold a password: the error of sqlx does not repeat it.
                        StoreError::invalid(format!("opening the store: url: {error}"))
                            .with_source(error)
                    },
                )
            }
        }
    }

    /// How long a connection that was idle, or comes back, may take to show that it is alive.
    pub(super) fn patience(&self) -> Duration {
        self.acquire_timeout.min(self.operation_timeout) / 4
    }

    /// Whether the pool is the application's.
    pub(super) const fn has_users_pool(&self) -> bool {
        matches!(self.target, Target::Pool(_))
    }

    /// Whether sessions may be told nothing: they are somebody else's, or another one each time.
    fn shares_sessions(&self) -> bool {
        self.transaction_pooling || self.has_users_pool()
    }

    /// The limits of whatever runs on the store's connections.
    fn limits(&self) -> [(&'static str, String); 3] {
        [
            ("statement_timeout", self.statement_timeout.as_millis().to_string()),
            ("lock_timeout", self.lock_timeout.as_millis().to_string()),
            ("idle_in_transaction_session_timeout", self.operation_timeout.as_millis().to_string()),
        ]
    }

    fn set(&self, how: &str, with_planner: bool) -> String {
        let limits = self.limits();
        let limits = limits.iter().map(|(name, value)| (*name, value.as_str()));
        let planner = PLANNER.into_iter().filter(|_| with_planner);
        limits.chain(planner).map(|(name, value)| format!("{how} {name} = {value}; ")).collect()
    }

    /// What a session for the store's statements is told first, if it is the store's.
    pub(super) fn session_settings(&self) -> Option<Arc<str>> {
        self.session(true)
    }

    /// What a session for transactions of the application is told first, if it is the store's.
    pub(super) fn users_session_settings(&self) -> Option<Arc<str>> {
        self.session(false)
    }

    fn session(&self, with_planner: bool) -> Option<Arc<str>> {
        if self.shares_sessions() {
            return None;
        }
        let settings = self.set("SET", with_planner);
        Some(format!("{settings}SET default_transaction_isolation = 'read committed'").into())
    }

    /// How a transaction for the store's statements begins, if the session is told nothing. It answers
    /// whether no transaction was open.
    pub(super) fn own_begin(&self) -> Option<Arc<str>> {
        self.shares_sessions().then(|| {
            let settings = self.set("SET LOCAL", true);
            format!("BEGIN ISOLATION LEVEL READ COMMITTED; {settings}{IS_FRESH}").into()
        })
    }

    /// How a transaction begins that sees one state of the database. It answers whether no transaction
    /// was open.
    pub(super) fn snapshot(&self) -> Arc<str> {
        let settings =
            if self.shares_sessions() { self.set("SET LOCAL", true) } else { String::new() };
        format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {settings}{IS_FRESH}").into()
    }

    /// How a transaction of the application begins.
    pub(super) fn users_begin(&self) -> String {
        match self.target {
            Target::Url(_) | Target::Options(_) if self.transaction_pooling => {
                let settings = self.set("SET LOCAL", false);
                format!("BEGIN ISOLATION LEVEL READ COMMITTED; {settings}")
            }
            _ => "BEGIN".to_owned(),
        }
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
        crate::receipts::check(self.keep_receipts)?;
        crate::partitions::check(self.partitions)
    }
}

impl fmt::Debug for PostgresConfig {
    /// Without the target, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// A new connection that was told `settings`.
pub(super) async fn connect(
    options: &PgConnectOptions,
    settings: Option<Arc<str>>,
) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    tell(&mut connection, settings).await?;
    Ok(connection)
}

/// Tells a new connection `settings`.
pub(super) async fn tell(
    connection: &mut PgConnection,
    settings: Option<Arc<str>>,
) -> Result<(), sqlx::Error> {
    match settings {
        Some(settings) => connection.execute(AssertSqlSafe(settings)).await.map(drop),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_planner_is_told_only_where_the_stores_statements_run() {
        let direct = PostgresConfig::new("postgres://localhost/x");
        assert!(direct.session_settings().unwrap().contains("SET enable_seqscan = off"));
        assert!(!direct.users_session_settings().unwrap().contains("enable"));
        assert_eq!(direct.own_begin(), None, "a single statement needs no transaction");
        assert!(!direct.snapshot().contains("SET LOCAL"));
        assert_eq!(direct.users_begin(), "BEGIN");

        let pooled = direct.transaction_pooling(true);
        assert_eq!(pooled.session_settings(), None);
        assert_eq!(pooled.users_session_settings(), None);
        for begin in [pooled.own_begin().unwrap(), pooled.snapshot()] {
            assert!(begin.contains("SET LOCAL enable_seqscan = off"), "{begin}");
            assert_eq!(begin.matches("SET ").count(), begin.matches("SET LOCAL ").count());
        }
        let begin = pooled.users_begin();
        assert!(begin.contains("SET LOCAL lock_timeout = 5000") && !begin.contains("enable"));
    }

    #[test]
    fn an_idle_connection_gets_a_part_of_the_shorter_wait() {
        let config = PostgresConfig::new("x");
        assert_eq!(config.patience(), Duration::from_millis(2500));
        let config = config.operation_timeout(Duration::from_millis(800));
        assert_eq!(config.patience(), Duration::from_millis(200));
    }
}
