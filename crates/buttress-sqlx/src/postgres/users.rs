//! Transactions of the application.

use std::time::Duration;

use buttress::StoreError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgPool, Postgres, Row as _, Transaction};
use tokio::sync::oneshot;

use super::PostgresStore;
use super::connect::{IS_FRESH, PostgresConfig, connect};
use crate::error::during;
use crate::time::within;

const BEGINNING: &str = "beginning a transaction";

/// A pool whose connections are looked at when they are lent and when they come back, each time for a
/// bounded time: sqlx itself would wait for the answer of a dead one without end, with its place.
pub(super) fn pool(config: &PostgresConfig, options: PgConnectOptions) -> PgPool {
    let patience = config.patience();
    let settings = config.users_session_settings();
    let is_good = if config.transaction_pooling {
        // Whether some session of the pooler is read-only is for the pooler to mend.
        IS_FRESH.to_owned()
    } else {
        format!("{IS_FRESH} AND current_setting('transaction_read_only') = 'off'")
    };
    let (returning, replacing) = (settings.clone(), options.clone());
    PgPoolOptions::new()
        .max_connections(config.connections)
        .acquire_timeout(config.acquire_timeout)
        .after_connect(move |connection, _| {
            let settings = settings.clone();
            Box::pin(async move { super::connect::tell(connection, settings).await })
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
                // sqlx asks again, and waits without end: for a socket that dies in between, as long as the
                // system takes to give it up.
                if let Some(Ok(good)) = within(patience, ask(connection, is_good.clone())).await {
                    return Ok(good);
                }
                // To close it politely could wait for it without end as well: dropped, it is closed.
                let fresh = within(patience, connect(&options, settings)).await;
                *connection = fresh.unwrap_or_else(|| Err(no_answer(patience)))?;
                ask(connection, is_good).await
            })
        })
        .connect_lazy_with(options)
}

async fn ask(connection: &mut PgConnection, question: String) -> Result<bool, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(question)).fetch_one(connection).await?.try_get(0)
}

fn no_answer(limit: Duration) -> sqlx::Error {
    let what = format!("no answer within {limit:?}");
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
}

impl PostgresStore {
    /// Begins a transaction on the store's [`pool`](Self::pool). One of any other pool to the same database
    /// does as well.
    ///
    /// On the store's own pool it has the timeouts of the configuration, for its statements and locks; a
    /// transaction in which nothing happens for longer than the operation timeout is rolled back by the
    /// server. How the planner works is as the server is configured.
    ///
    /// # Errors
    /// `Transient` if there is no connection within the acquire timeout, or no answer within the operation
    /// timeout.
    ///
    /// # Cancel safety
    /// A transaction whose future is dropped is rolled back, or its connection closed.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let config = &self.inner.config;
        let (pool, begin) = (self.inner.pool.clone(), AssertSqlSafe(config.users_begin()));
        let begun = async move { pool.begin_with(begin).await.map_err(during(BEGINNING)) };
        if !config.has_users_pool() {
            // If it is dropped, the pool finds the session in a transaction, and closes it.
            return self.bounded(BEGINNING, begun).await;
        }
        // On a task of its own: sqlx leaves the transaction open, and lends its session again, when its
        // future is dropped between BEGIN and the answer.
        let (sender, receiver) = oneshot::channel();
        config.spawner.spawn(async move {
            // If nobody waits any more, it is rolled back here.
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
