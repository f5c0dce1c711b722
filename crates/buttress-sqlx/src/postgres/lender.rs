//! [`Lender`]: the source of connections for the store's own operations.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use buttress::{Clock, StoreError};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, PgPool, Row as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::PostgresConfig;
use super::loan::{Loan, Taken};
use super::session::connect;
use crate::error::{failed, too_slow};
use crate::time::within;

/// A session that was idle for this long is closed.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// A session of this age is closed, so that its server process frees its memory.
const OLD: Duration = Duration::from_secs(30 * 60);

const CONNECTING: &str = "connecting";

/// Lends connections on which the store's statements run under the store's settings.
#[derive(Clone)]
pub(super) struct Lender {
    source: Source,
    manner: Arc<Manner>,
}

/// How the store's statements get their settings.
#[derive(Clone)]
struct Manner {
    /// The statement that begins a transaction and applies the settings. `None` if each session
    /// already has the settings.
    begin: Option<Arc<str>>,
    /// The beginning of a transaction whose statements see one state of the database.
    snapshot: Arc<str>,
    acquire_timeout: Duration,
}

#[derive(Clone)]
enum Source {
    Sessions(Arc<Sessions>),
    Pool(PgPool),
}

/// Sessions that only the store's operations use.
struct Sessions {
    options: PgConnectOptions,
    /// The settings of a new session.
    setup: Option<Arc<str>>,
    /// How long a session that was idle may take to answer.
    patience: Duration,
    permits: Arc<Semaphore>,
    most: u32,
    /// The session used last is at the end.
    idle: Mutex<Vec<Idle>>,
    clock: Clock,
}

/// A session that is not lent.
struct Idle {
    connection: PgConnection,
    made: Instant,
    since: Instant,
}

/// A session of the store that is lent, with its permit.
pub(super) struct Session {
    pub connection: PgConnection,
    made: Instant,
    home: Arc<Sessions>,
    _permit: OwnedSemaphorePermit,
}

impl Lender {
    /// Creates a lender of sessions to the database of `options`.
    pub(super) fn of_sessions(config: &PostgresConfig, options: PgConnectOptions) -> Self {
        let sessions = Sessions {
            options,
            setup: config.session_settings(),
            patience: config.patience(),
            permits: Arc::new(Semaphore::new(config.settings.connections as usize)),
            most: config.settings.connections,
            idle: Mutex::default(),
            clock: Clock::default(),
        };
        Self { source: Source::Sessions(Arc::new(sessions)), manner: Manner::of(config) }
    }

    /// Creates a lender of connections of a user's pool.
    pub(super) fn of_pool(config: &PostgresConfig, pool: PgPool) -> Self {
        Self { source: Source::Pool(pool), manner: Manner::of(config) }
    }

    /// Lends a connection for single statements, or whole transactions, under the store's settings.
    pub(super) async fn lend(&self) -> Result<Loan, StoreError> {
        match &self.manner.begin {
            Some(begin) => self.begun(begin).await,
            None => self.take().await,
        }
    }

    /// Lends a new session like [`lend`](Self::lend), but does not wait for a permit or repeat a
    /// refused connect.
    pub(super) async fn lend_now(&self) -> Result<Loan, StoreError> {
        let mut manner = (*self.manner).clone();
        manner.acquire_timeout = Duration::ZERO;
        Self { source: self.source.clone(), manner: Arc::new(manner) }.lend().await
    }

    /// Lends a connection in a transaction whose statements see one state of the database, and
    /// change nothing.
    pub(super) async fn lend_snapshot(&self) -> Result<Loan, StoreError> {
        self.begun(&self.manner.snapshot).await
    }

    /// Returns the database for a connection of a writer. Returns `None` if a writer must borrow
    /// its connections: from a user's pool, or because a single statement needs a transaction.
    #[cfg(any(feature = "saga", feature = "idempotency"))]
    pub(super) fn direct(&self) -> Option<&PgConnectOptions> {
        match (&self.source, &self.manner.begin) {
            (Source::Sessions(sessions), None) => Some(&sessions.options),
            _ => None,
        }
    }

    /// Closes the idle sessions, once all lent ones have returned. A user's pool stays open.
    pub(super) async fn close(&self) {
        if let Source::Sessions(sessions) = &self.source {
            let _all = sessions.permits.acquire_many(sessions.most).await;
            sessions.permits.close();
            sessions.idle().clear();
        }
    }

    async fn begun(&self, begin: &Arc<str>) -> Result<Loan, StoreError> {
        // Each try closes a connection that was left in a transaction, so the loop ends.
        loop {
            let mut loan = self.take().await?;
            let query = sqlx::raw_sql(AssertSqlSafe(Arc::clone(begin)));
            let is_fresh = match query.fetch_one(&mut *loan).await {
                Ok(row) => row.try_get(0),
                // The transaction that was left open has failed.
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("25P02") => {
                    Ok(false)
                }
                Err(error) => Err(error),
            };
            match is_fresh {
                Ok(true) => {
                    loan.has_begun();
                    return Ok(loan);
                }
                Ok(false) => tracing::warn!(
                    "a connection of the pool was in an open transaction; it is closed, which rolls it back"
                ),
                Err(error) => return Err(failed(CONNECTING, error)),
            }
        }
    }

    async fn take(&self) -> Result<Loan, StoreError> {
        let taken = match &self.source {
            Source::Sessions(sessions) => {
                Taken::Session(Arc::clone(sessions).take(self.manner.acquire_timeout).await?)
            }
            Source::Pool(pool) => {
                Taken::Pooled(pool.acquire().await.map_err(|error| failed(CONNECTING, error))?)
            }
        };
        Ok(Loan::new(taken))
    }
}

impl Manner {
    fn of(config: &PostgresConfig) -> Arc<Self> {
        Arc::new(Self {
            begin: config.own_begin(),
            snapshot: config.snapshot(),
            acquire_timeout: config.settings.acquire_timeout,
        })
    }
}

impl Sessions {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(self: Arc<Self>, limit: Duration) -> Result<Session, StoreError> {
        let permit = within(limit, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = permit
            .ok_or_else(|| too_slow("waiting for a connection", limit))?
            .map_err(|_closed| StoreError::transient("the store is closed"))?;
        if let Some(idle) = self.answering().await {
            let Idle { connection, made, .. } = idle;
            return Ok(Session { connection, made, home: self, _permit: permit });
        }
        let connection = self.connect(limit).await.map_err(|error| failed(CONNECTING, error))?;
        let made = self.clock.now();
        Ok(Session { connection, made, home: self, _permit: permit })
    }

    /// Returns the idle session used last, if it answers.
    async fn answering(&self) -> Option<Idle> {
        let mut idle = self.idle().pop()?;
        if let Some(Ok(())) = within(self.patience, idle.connection.ping()).await {
            return Some(idle);
        }
        // The cause, e.g. a restart or a network failure, has likely ended the other sessions too.
        self.idle().clear();
        None
    }

    /// Opens a session. Repeats until `limit` if the server is starting or has no connection left.
    async fn connect(&self, limit: Duration) -> sqlx::Result<PgConnection> {
        let until = self.clock.now().checked_add(limit);
        let mut pause = Duration::from_millis(10);
        loop {
            let error = match connect(&self.options, self.setup.clone()).await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            let next = self.clock.now() + pause;
            if !may_pass(&error) || until.is_some_and(|until| until <= next) {
                return Err(error);
            }
            self.clock.sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

/// Whether the server may accept a connection after this error.
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        sqlx::Error::Database(error) => error.is_transient_in_connect_phase(),
        _ => false,
    }
}

impl Session {
    /// Makes the session idle, unless it is too old.
    pub(super) fn release(self) {
        let now = self.home.clock.now();
        let mut idle = self.home.idle();
        idle.retain(|idle| now.saturating_duration_since(idle.since) < IDLE);
        if now.saturating_duration_since(self.made) < OLD {
            idle.push(Idle { connection: self.connection, made: self.made, since: now });
        }
    }
}
