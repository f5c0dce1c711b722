//! The configuration of a store on SQLite.

use std::path::Path;
use std::time::Duration;

use buttress::{Clock, InvalidConfig};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};

use crate::settings::{Settings, common_setters, setters};

use super::place::{Memory, Place};

/// When a commit returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Synchronous {
    /// When the disk has the commit. Every answer survives a power loss. The default.
    #[default]
    Full,
    /// When the operating system has the commit. Every answer survives the end of the process. The
    /// last commits may be lost after a power loss or a crash of the system. The file stays sound.
    Normal,
}

/// The configuration of a [`SqliteStore`](crate::SqliteStore): its file, and its time limits.
///
/// Setters take and return the value. [`SqliteStore::open`](crate::SqliteStore::open) checks the
/// values.
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteConfig {
    pub(super) place: Place,
    pub(super) synchronous: Synchronous,
    pub(super) busy_timeout: Duration,
    pragmas: Vec<(String, String)>,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
}

impl SqliteConfig {
    /// Creates a configuration for the file at `path`. A path that begins with `file:` is a URI.
    ///
    /// [`open`](crate::SqliteStore::open) creates the file if it does not exist; its folder must
    /// exist. It refuses a path that names no file: an empty path, `:memory:`, and URIs with
    /// `mode=memory`. SQLite would give each connection a separate database. See
    /// [`in_memory`](Self::in_memory).
    ///
    /// On Unix the store checks that `path` still names the file and the log that it has open. It
    /// checks after each commit, before it answers, and with each operation that reads. A file that
    /// was deleted, moved or replaced is a `Misconfigured` error. The file at `path` then lacks the
    /// writes since. On other systems the store does not check.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self::at(Place::File(path.as_ref().to_owned()))
    }

    /// Creates a configuration for a database in memory, for tests and for data that need not
    /// survive the process.
    ///
    /// Every connection of the store shares the database. A store that is opened with a clone of
    /// this configuration shares it too, while the first store lives. The database ends with the
    /// last clone of the last such store. A store that is opened later begins empty. The database
    /// holds up to 1 GiB.
    ///
    /// Without a file there is no write-ahead log. A reader waits until a writing transaction ends,
    /// up to the busy timeout, and then gets a `Transient` error. Inside a transaction of
    /// [`begin`](crate::SqliteStore::begin), read through the transaction.
    pub fn in_memory() -> Self {
        Self::at(Place::Memory(Memory::default()))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            synchronous: Synchronous::Full,
            busy_timeout: Duration::from_secs(5),
            pragmas: Vec::new(),
            clock: Clock::default(),
            settings: Settings::new(4, 512),
        }
    }

    setters! {
        /// Sets when a commit returns. Default: [`Synchronous::Full`].
        synchronous(synchronous: Synchronous);

        /// Sets how long a statement waits for a writer in another process, or for one outside the
        /// store's queue. Default: 5 s. Above zero, at most 1 hour.
        busy_timeout(timeout: Duration);

        /// Sets how long [`begin`](crate::SqliteStore::begin) waits for its turn, and how long a caller
        /// waits for a connection of the pool. Default: 10 s. Above zero, at most 1 hour.
        ///
        /// The default is longer than the busy timeout, so that a busy timeout is reported as one.
        acquire_timeout(timeout: Duration) sets settings.acquire_timeout;

        /// Sets how long an operation of the store may take, with all its waits. Default: 15 s. Above
        /// zero, at most 1 hour.
        ///
        /// After this time the store returns a transient error. The default is the sum of the busy and
        /// the acquire timeout.
        operation_timeout(timeout: Duration) sets settings.operation_timeout;

        /// Sets the most connections of the store's pool, for reading and for user transactions.
        /// Default: 4. At least 1.
        ///
        /// The writer has a separate connection. Only one transaction writes at a time, with any number
        /// of connections.
        connections(connections: u32) sets settings.connections;

        /// Sets how many operations may wait for the writer. Default: 1024. At least 1. Further callers
        /// wait for a place.
        queue(operations: usize) sets settings.queue;

        /// Sets the most rows of one transaction of the writer. Default: 512, which takes a few
        /// milliseconds. At least 1.
        ///
        /// A user's transaction may have to wait this long behind the writer. A larger operation gets
        /// its own transaction.
        batch_rows(rows: usize) sets settings.batch_rows;
    }

    /// Adds a pragma for every connection, such as `cache_size` or `max_page_count`. The store does
    /// not check it.
    pub fn pragma(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.pragmas.push((name.into(), value.into()));
        self
    }

    setters! {
        /// Sets the clock whose wall time is stored. Default: the system's clock.
        ///
        /// Waits on the database always run on tokio's clock.
        clock(clock: Clock);
    }

    common_setters!();

    /// Returns options for your own pool: write-ahead log, `synchronous` and the busy timeout as configured.
    ///
    /// The options do not create the file: open the store first. For a database in memory, take the
    /// configuration of an open store from [`SqliteStore::config`](crate::SqliteStore::config).
    ///
    /// A transaction of such a pool does not wait in the store's queue, unless
    /// [`SqliteStore::begin_on`](crate::SqliteStore::begin_on) begins it. It then retries for the
    /// file until the busy timeout. A transaction with a plain `BEGIN` that reads and then writes
    /// fails immediately if another transaction wrote in between. Without `begin_on` the commit
    /// also does not check that the file is still at its path.
    #[must_use]
    pub fn connect_options(&self) -> SqliteConnectOptions {
        self.options(false)
    }

    /// Returns [`connect_options`](Self::connect_options) for a connection that may create the
    /// file.
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
            .max_connections(self.settings.connections)
            .acquire_timeout(self.settings.acquire_timeout)
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        self.place.check()?;
        let bound = (Duration::from_nanos(1), "longer than zero and at most an hour");
        self.settings.check(&[("busy-timeout", self.busy_timeout)], bound)
    }
}
