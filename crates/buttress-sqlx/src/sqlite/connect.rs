//! How a store on SQLite is opened.

use std::path::Path;
use std::time::Duration;

use buttress::{Clock, InvalidConfig, Spawner};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};

use super::place::{Memory, Place};

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
    pub(super) place: Place,
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
    /// The file at `path`, which is created when a store is opened, if it is not there; its folder must
    /// be. A path that begins with `file:` is a URI.
    ///
    /// What names no file is refused when a store is opened: an empty path, `:memory:`, and URIs with
    /// `mode=memory`. SQLite would give each connection a database of its own. See
    /// [`in_memory`](Self::in_memory).
    ///
    /// Only [`open`](crate::SqliteStore::open) creates the file. On Unix the store then looks whether the
    /// file at `path`, and the log beside it, are those that it has open: after each commit before it
    /// answers, and with each operation that reads. A file that was deleted, moved or replaced meanwhile is
    /// a `Misconfigured` error. What was written since is not in the file that stands at `path`. On other
    /// systems nothing looks.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self::at(Place::File(path.as_ref().to_owned()))
    }

    /// A database in memory: for tests, and for what need not survive the process. It needs no folder.
    ///
    /// Every connection of the store shares it, and so does a store that is opened with a clone of this
    /// configuration while the first one lives. It is gone with the last clone of the last such store;
    /// what is opened after that begins empty. It holds up to 1 GiB.
    ///
    /// Without a file there is no write-ahead log: who reads waits until a transaction that writes ends,
    /// up to the busy timeout, and gets a `Transient` error then. Inside a transaction of
    /// [`begin`](crate::SqliteStore::begin) read through the transaction.
    pub fn in_memory() -> Self {
        Self::at(Place::Memory(Memory::default()))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
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
    /// the busy timeout as configured. It does not create the file: open the store first. For a database
    /// in memory take the configuration of an open store: [`SqliteStore::config`](crate::SqliteStore::config).
    ///
    /// Nothing looks whether the file is still there when a transaction of such a pool commits, unless it
    /// was begun with [`SqliteStore::begin_on`](crate::SqliteStore::begin_on).
    ///
    /// Transactions of such a pool do not stand in the line of the store's gate unless they are begun
    /// with [`SqliteStore::begin_on`](crate::SqliteStore::begin_on); they then compete for the file by
    /// trying again until the busy timeout. One that reads first and then writes, begun with a plain
    /// `BEGIN`, fails at once whenever somebody wrote in between.
    #[must_use]
    pub fn connect_options(&self) -> SqliteConnectOptions {
        self.options(false)
    }

    /// As [`connect_options`](Self::connect_options), of a connection that may create the file.
    pub(super) fn options(&self, create: bool) -> SqliteConnectOptions {
        let synchronous = match self.synchronous {
            Synchronous::Full => SqliteSynchronous::Full,
            Synchronous::Normal => SqliteSynchronous::Normal,
        };
        let options = self
            .place
            .options(create)
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
        self.place.check()?;
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
