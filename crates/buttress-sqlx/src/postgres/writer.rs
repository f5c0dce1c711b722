//! The writers: tasks that write the operations of their callers in one statement.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buttress::{Clock, StoreError};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::connect::PostgresConfig;
use super::lender::Lender;
use super::session::connect;
use super::sql::Sql;
use crate::error::{batch_failed, too_slow};
use crate::queue::{Batch, Intake, Limits, Op, Queue};
use crate::time::within;

/// The most bytes of one batch of a writer, unless one operation alone is larger.
const BATCH_BYTES: usize = 4 << 20;

/// Operations that one writer writes together.
pub(super) trait Together: Op {
    /// Returns the kind of the operation. Operations of one kind share statements.
    fn kind(&self) -> u8;

    /// Writes operations of one wave, in which each subject is unique. Each statement may be a
    /// separate transaction.
    fn write(
        connection: &mut PgConnection,
        sql: &Sql,
        ops: Vec<&mut Self>,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
}

/// The state of a writer.
pub(super) struct Writer {
    source: Source,
    sql: Sql,
    /// How long one batch may take.
    operation_timeout: Duration,
}

/// The source of a writer's connection.
enum Source {
    /// A separate connection, whose session has the settings.
    Own(Box<Own>),
    /// A connection that is lent for each transaction.
    Lent(Lender),
}

/// The connection that only one writer uses.
struct Own {
    options: PgConnectOptions,
    settings: Option<Arc<str>>,
    /// `None` before the first batch, and after a batch that failed.
    connection: Option<PgConnection>,
    /// When the connection was used last.
    used: Instant,
    /// After this idle time the connection must answer first, within this time.
    patience: Duration,
    clock: Clock,
}

impl Own {
    async fn connection(&mut self) -> sqlx::Result<&mut PgConnection> {
        if let Some(connection) = &mut self.connection {
            // A connection can die silently while idle. Without the check, a batch would need its
            // whole time to find out.
            let idle = self.clock.now().saturating_duration_since(self.used);
            let is_good = idle < self.patience
                || matches!(within(self.patience, connection.ping()).await, Some(Ok(())));
            if !is_good {
                self.connection = None;
            }
        }
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(connect(&self.options, self.settings.clone()).await?)),
        }
    }
}

impl Writer {
    /// Starts a writer, and returns its queue. The writer has a separate connection if `lender` has
    /// sessions with the settings, and otherwise borrows connections.
    pub(super) fn start<O: Together>(
        config: &PostgresConfig,
        sql: &Sql,
        lender: &Lender,
    ) -> Queue<O> {
        let source = match lender.direct() {
            Some(options) => {
                let clock = Clock::default();
                Source::Own(Box::new(Own {
                    options: options.clone(),
                    settings: config.session_settings(),
                    connection: None,
                    used: clock.now(),
                    patience: config.patience(),
                    clock,
                }))
            }
            None => Source::Lent(lender.clone()),
        };
        let operation_timeout = config.settings.operation_timeout;
        let writer = Self { source, sql: sql.clone(), operation_timeout };
        let limits = Limits { rows: config.settings.batch_rows, bytes: BATCH_BYTES };
        let (queue, intake) = Queue::new(config.settings.queue, operation_timeout, limits);
        config.settings.spawner.spawn(writer.run(intake));
        queue
    }

    /// Writes until the store is dropped.
    async fn run<O: Together>(mut self, mut intake: Intake<O>) {
        while let Some(mut batch) = intake.begin().await {
            intake.fill(&mut batch);
            let written = self.try_to_write(&mut batch).await;
            if written.as_ref().is_err_and(|error| batch.is_to_be_split(error)) {
                for mut alone in batch.singly() {
                    let written = self.try_to_write(&mut alone).await;
                    alone.answer(written.as_ref().copied());
                }
                continue;
            }
            batch.answer(written.as_ref().copied());
        }
        if let Source::Own(own) = self.source
            && let Some(connection) = own.connection
        {
            let _closing = within(self.operation_timeout, connection.close()).await;
        }
    }

    async fn try_to_write<O: Together>(&mut self, batch: &mut Batch<O>) -> Result<(), StoreError> {
        const WHAT: &str = "writing a batch";
        let limit = self.operation_timeout;
        let written = within(limit, self.write(batch, WHAT)).await;
        let written = written.unwrap_or_else(|| Err(too_slow(WHAT, limit)));
        if let Err(error) = &written {
            // The callers log the error: they know which of their failures begins an outage.
            tracing::debug!(%error, "a batch of a store was not written");
            self.forget();
        }
        written
    }

    /// Closes the connection after a failure, because its state is unknown.
    fn forget(&mut self) {
        if let Source::Own(own) = &mut self.source {
            own.connection = None;
        }
    }

    async fn write<O: Together>(
        &mut self,
        batch: &mut Batch<O>,
        what: &str,
    ) -> Result<(), StoreError> {
        let failed = |error| batch_failed(what, error);
        match &mut self.source {
            Source::Own(own) => {
                let connection = own.connection().await.map_err(failed)?;
                for wave in batch.waves() {
                    O::write(connection, &self.sql, wave).await.map_err(failed)?;
                }
                own.used = own.clock.now();
            }
            Source::Lent(lender) => {
                for part in batch.waves().into_iter().flat_map(by_kind) {
                    let mut loan = lender.lend().await?;
                    O::write(&mut loan, &self.sql, part).await.map_err(failed)?;
                    loan.finish().await?;
                }
            }
        }
        Ok(())
    }
}

/// Returns the operations of a wave by kind, so that no kind waits in a transaction for the locks
/// of another kind.
fn by_kind<O: Together>(wave: Vec<&mut O>) -> Vec<Vec<&mut O>> {
    let mut kinds = std::collections::BTreeMap::<u8, Vec<&mut O>>::new();
    for op in wave {
        kinds.entry(op.kind()).or_default().push(op);
    }
    kinds.into_values().collect()
}
