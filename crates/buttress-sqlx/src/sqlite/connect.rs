//! How a store on SQLite is opened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use buttress::{Clock, InvalidConfig, Spawner};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

/// What a commit waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Synchronous {
    /// Until the disk has it: what was answered survives a power loss. The default, because a store
    /// that answers is believed.
    #[default]
    Full,
    /// Until the operating system has it: what was answered survives the end of the process, in
    /// whatever way it comes, but the last commits may be gone after a power loss or a crash of the
    /// system. The file stays sound.
    Normal,
}

/// Where the file is, and how long things may take.
///
/// Built with by-value setters; checked when a store is opened with it.
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteConfig {
    pub(super) path: PathBuf,
    pub(super) synchronous: Synchronous,
    pub(super) busy_timeout: Duration,
    pub(super) acquire_timeout: Duration,
    pub(super) operation_timeout: Duration,
    pub(super) connections: u32,
    pub(super) partitions: Option<u16>,
    pub(super) results: Option<u64>,
    pub(super) keep_receipts: Option<Duration>,
    pub(super) queue: usize,
    pub(super) batch_rows: usize,
    pragmas: Vec<(String, String)>,
    pub(super) clock: Clock,
    pub(super) spawner: Spawner,
}

impl SqliteConfig {
    /// The file at `path`, which is created if it is not there; its folder must be.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(10),
            operation_timeout: Duration::from_secs(15),
            connections: 4,
            partitions: None,
            results: None,
            keep_receipts: crate::receipts::KEPT,
            queue: 1024,
            batch_rows: 512,
            pragmas: Vec::new(),
            clock: Clock::default(),
            spawner: Spawner::default(),
        }
    }

    /// What a commit waits for. Defaults to [`Synchronous::Full`].
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long a statement waits for a writer in another process, or one that went round the gate.
    /// Defaults to 5 s, which is far beyond any sensible transaction.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// How long [`begin`](crate::SqliteStore::begin) waits for its turn, and how long anybody waits for
    /// a connection of the pool. Defaults to 10 s, so that a busy timeout before it is seen as one.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// How long an operation of the store may take in all, before it is answered with a transient
    /// error. Defaults to 15 s, because it may hold the two waits before it.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// The most connections of the store's pool, for reading and for user transactions; the writer has
    /// one of its own. Defaults to 4: only one transaction writes at a time, whatever their number.
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// Into how many partitions the outbox is divided: the most relays that can share the work.
    /// Fixed when the file is created, with 16 unless said here; opening it with another number is
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

    /// How many operations may wait for the writer. Defaults to 1024; who finds no place waits for one.
    pub fn queue(mut self, operations: usize) -> Self {
        self.queue = operations;
        self
    }

    /// The most rows the writer puts into one transaction. Defaults to 512, a few milliseconds, because
    /// that is how long a user's transaction may have to wait behind it. An operation that alone is
    /// larger goes alone.
    pub fn batch_rows(mut self, rows: usize) -> Self {
        self.batch_rows = rows;
        self
    }

    /// One more pragma for every connection, such as `cache_size` or `max_page_count`. It is not checked.
    pub fn pragma(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.pragmas.push((name.into(), value.into()));
        self
    }

    /// The clock whose wall time is stored. Defaults to the system's. Waits on the database itself are
    /// counted by tokio's clock, whatever is given here.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Where the writer runs. Defaults to tokio. sqlx needs a tokio runtime in any case.
    pub fn spawner(mut self, spawner: Spawner) -> Self {
        self.spawner = spawner;
        self
    }

    /// What a connection to the file needs, for a pool of your own: write-ahead log, `synchronous` and
    /// the busy timeout as configured.
    ///
    /// Transactions of such a pool do not stand in the line of the store's gate unless they are begun
    /// with [`SqliteStore::begin_on`](crate::SqliteStore::begin_on); they then compete for the file by
    /// trying again until the busy timeout. One that reads first and then writes, begun with a plain
    /// `BEGIN`, fails at once whenever somebody wrote in between.
    #[must_use]
    pub fn connect_options(&self) -> SqliteConnectOptions {
        let synchronous = match self.synchronous {
            Synchronous::Full => SqliteSynchronous::Full,
            Synchronous::Normal => SqliteSynchronous::Normal,
        };
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .busy_timeout(self.busy_timeout)
            // The log shrinks again after a long reader made it grow.
            .pragma("journal_size_limit", "67108864")
            .pragma("cache_size", "-8000");
        let pragmas = self.pragmas.iter().cloned();
        pragmas.fold(options, |options, (name, value)| options.pragma(name, value))
    }

    pub(super) fn pool_options(&self) -> SqlitePoolOptions {
        SqlitePoolOptions::new()
            .max_connections(self.connections)
            .acquire_timeout(self.acquire_timeout)
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        for (field, value) in [
            ("busy-timeout", self.busy_timeout),
            ("acquire-timeout", self.acquire_timeout),
            ("operation-timeout", self.operation_timeout),
        ] {
            if value.is_zero() || value > Duration::from_secs(3600) {
                return Err(InvalidConfig::new(
                    field,
                    format!("{value:?}"),
                    "longer than zero and at most an hour",
                ));
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
        crate::receipts::check(self.keep_receipts)?;
        crate::partitions::check(self.partitions)
    }
}
