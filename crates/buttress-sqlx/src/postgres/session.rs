//! The settings of a session or a transaction, for the store's statements and for the application's.

use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use super::connect::PostgresConfig;

/// Keeps the planner to indexes, because the tables are queues: they change faster than their
/// statistics. Also keeps it from compiling statements that take a millisecond.
const PLANNER: [(&str, &str); 3] =
    [("enable_seqscan", "off"), ("enable_bitmapscan", "off"), ("jit", "off")];

/// True in a transaction that this very message began: its time is the time of the message.
pub(super) const IS_FRESH: &str = "SELECT now() = statement_timestamp()";

impl PostgresConfig {
    /// Whether sessions must stay without settings: they belong to the application, or change with
    /// each transaction.
    fn shares_sessions(&self) -> bool {
        self.transaction_pooling || self.has_users_pool()
    }

    /// Returns the time limits of the statements on the store's connections.
    fn limits(&self) -> [(&'static str, String); 3] {
        [
            ("statement_timeout", self.statement_timeout.as_millis().to_string()),
            ("lock_timeout", self.lock_timeout.as_millis().to_string()),
            (
                "idle_in_transaction_session_timeout",
                self.settings.operation_timeout.as_millis().to_string(),
            ),
        ]
    }

    fn set(&self, how: &str, with_planner: bool) -> String {
        let limits = self.limits();
        let limits = limits.iter().map(|(name, value)| (*name, value.as_str()));
        let planner = PLANNER.into_iter().filter(|_| with_planner);
        limits.chain(planner).map(|(name, value)| format!("{how} {name} = {value}; ")).collect()
    }

    /// Returns the settings of a session for the store's statements, if the session is the store's.
    pub(super) fn session_settings(&self) -> Option<Arc<str>> {
        self.session(true)
    }

    /// Returns the settings of a session for the application's transactions, if the session is the
    /// store's.
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

    /// Returns the beginning of a transaction for the store's statements, if the session has no
    /// settings. Its result says whether no transaction was open.
    pub(super) fn own_begin(&self) -> Option<Arc<str>> {
        self.shares_sessions().then(|| {
            let settings = self.set("SET LOCAL", true);
            format!("BEGIN ISOLATION LEVEL READ COMMITTED; {settings}{IS_FRESH}").into()
        })
    }

    /// Returns the beginning of a transaction that sees one state of the database. Its result says
    /// whether no transaction was open.
    pub(super) fn snapshot(&self) -> Arc<str> {
        let settings =
            if self.shares_sessions() { self.set("SET LOCAL", true) } else { String::new() };
        format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {settings}{IS_FRESH}").into()
    }

    /// Returns the beginning of a transaction of the application.
    pub(super) fn users_begin(&self) -> String {
        if self.transaction_pooling && !self.has_users_pool() {
            let settings = self.set("SET LOCAL", false);
            return format!("BEGIN ISOLATION LEVEL READ COMMITTED; {settings}");
        }
        "BEGIN".to_owned()
    }
}

/// Opens a connection, and applies `settings`.
pub(super) async fn connect(
    options: &PgConnectOptions,
    settings: Option<Arc<str>>,
) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    configure(&mut connection, settings).await?;
    Ok(connection)
}

/// Applies `settings` to a new connection.
pub(super) async fn configure(
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
}
