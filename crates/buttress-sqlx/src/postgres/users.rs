//! Transactions of the application.

use std::time::Duration;

use buttress::StoreError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgPool, Postgres, Row as _, Transaction};
use tokio::sync::oneshot;

use super::PostgresStore;
use super::connect::PostgresConfig;
use super::session::{IS_FRESH, connect};
use crate::error::during;
use crate::time::within;

const BEGINNING: &str = "beginning a transaction";

/// Creates a pool that checks a connection when it lends it and when it comes back, each time for a
/// bounded time. sqlx itself would wait forever for the answer of a dead connection, which keeps
/// its place.
pub(super) fn pool(config: &PostgresConfig, options: PgConnectOptions) -> PgPool {
    let patience = config.patience();
    let settings = config.users_session_settings();
    let is_good = if config.transaction_pooling {
        // A read-only session of the pooler is the pooler's to fix.
        IS_FRESH.to_owned()
    } else {
        format!("{IS_FRESH} AND current_setting('transaction_read_only') = 'off'")
    };
    let (returning, replacing) = (settings.clone(), options.clone());
    PgPoolOptions::new()
        .max_connections(config.settings.connections)
        .acquire_timeout(config.settings.acquire_timeout)
        .after_connect(move |connection, _| {
            let settings = settings.clone();
            Box::pin(async move { super::session::configure(connection, settings).await })
        })
        .test_before_acquire(false)
        .before_acquire(move |connection, _| {
            Box::pin(async move {
                within(patience, connection.ping())
                    .await
                    .unwrap_or_else(|| Err(no_answer(patience)))?;
                Ok(true)
            })
        })
        .after_release(move |connection, _| {
            let (is_good, settings, options) =
                (is_good.clone(), returning.clone(), replacing.clone());
            Box::pin(async move {
                // sqlx checks again, without a limit. For a socket that dies in between, it waits
                // until the system closes the socket.
                if let Some(Ok(good)) = within(patience, ask(connection, is_good.clone())).await {
                    return Ok(good);
                }
                // A polite close could also wait forever. A dropped connection is closed
                // immediately.
                let fresh = within(patience, connect(&options, settings)).await;
                *connection = fresh.unwrap_or_else(|| Err(no_answer(patience)))?;
                ask(connection, is_good).await
            })
        })
        .connect_lazy_with(options)
}

async fn ask(connection: &mut PgConnection, question: String) -> sqlx::Result<bool> {
    sqlx::raw_sql(AssertSqlSafe(question)).fetch_one(connection).await?.try_get(0)
}

fn no_answer(limit: Duration) -> sqlx::Error {
    let what = format!("no answer within {limit:?}");
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}

impl PostgresStore {
    /// Begins a transaction on the store's [`pool`](Self::pool). A transaction of any other pool to
    /// the same database works as well.
    ///
    /// On the store's own pool the transaction has the configured timeouts for its statements and
    /// locks. The server rolls back a transaction that is idle for longer than the operation
    /// timeout. The planner has the settings of the server.
    ///
    /// # Errors
    /// Returns `Transient` if there is no connection within the acquire timeout, or no answer
    /// within the operation timeout.
    ///
    /// # Cancel safety
    /// If the future is dropped, the transaction is rolled back, or its connection is closed.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let config = &self.inner.config;
        let (pool, begin) = (self.inner.pool.clone(), AssertSqlSafe(config.users_begin()));
        let begun = async move { pool.begin_with(begin).await.map_err(during(BEGINNING)) };
        if !config.has_users_pool() {
            // If the future is dropped, the pool finds the session in a transaction, and closes it.
            return self.bounded(BEGINNING, begun).await;
        }
        // On a separate task: if its future is dropped between BEGIN and the answer, sqlx leaves
        // the transaction open and lends its session again.
        let (sender, receiver) = oneshot::channel();
        config.settings.spawner.spawn(async move {
            // If the caller does not wait any more, the transaction is rolled back here.
            let _gone = sender.send(begun.await);
        });
        self.bounded(BEGINNING, async {
            receiver.await.unwrap_or_else(|_| {
                Err(StoreError::transient(format!("{BEGINNING}: the runtime shuts down")))
            })
        })
        .await
    }
}
