//! The writers: tasks that put what their callers ask for into one statement.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buttress::{Clock, StoreError};
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::connect::{PostgresConfig, connect};
use super::lender::Lender;
use super::sql::Sql;
use crate::error::{batch_failed, too_slow};
use crate::queue::{Batch, Intake, Op};
use crate::time::within;

/// Operations that are written together.
pub(super) trait Together: Op {
    /// Which operations of a wave share statements.
    fn kind(&self) -> u8;

    /// Carries out operations of one wave: no subject comes up twice. Each statement may be a transaction
    /// of its own.
    fn write(
        connection: &mut PgConnection,
        sql: &Sql,
        ops: Vec<&mut Self>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// What a writer needs.
pub(super) struct Writer {
    source: Source,
    sql: Sql,
    /// How long one batch may take.
    operation_timeout: Duration,
}

/// Where a writer gets its connection.
enum Source {
    /// One of its own, whose session has the settings.
    Own(Box<Own>),
    /// One that is lent for each transaction.
    Lent(Lender),
}

/// The connection that only one writer uses.
struct Own {
    options: PgConnectOptions,
    settings: Option<Arc<str>>,
    /// None before the first batch, and after one that failed.
    connection: Option<PgConnection>,
    /// When it was used last.
    used: Instant,
    /// After how long it is asked for an answer first, and how long that may take.
    patience: Duration,
    clock: Clock,
}

impl Own {
    async fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        if let Some(connection) = &mut self.connection {
            // A connection can die in silence while nothing is written, and would take the whole time of a
            // batch to be found out.
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
    /// With a connection of its own to `direct`, or connections of `lender`.
    pub(super) fn new(
        config: &PostgresConfig,
        sql: &Sql,
        direct: Option<&PgConnectOptions>,
        lender: &Lender,
    ) -> Self {
        let source = match direct {
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
        Self { source, sql: sql.clone(), operation_timeout: config.operation_timeout }
    }

    /// Writes until the store is gone.
    pub(super) async fn run<O: Together>(mut self, mut intake: Intake<O>) {
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
            // The callers log it: in an outage they know which of their failures is the first.
            tracing::debug!(%error, "a batch of a store was not written");
            self.forget();
        }
        written
    }

    /// Closes the connection after a failure: nobody knows in what state it is; a new one knows.
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
                    loan.give_back().await?;
                }
            }
        }
        Ok(())
    }
}

/// The operations of a wave, those of a kind together, so that no kind waits for the locks of another in
/// one transaction.
fn by_kind<O: Together>(wave: Vec<&mut O>) -> Vec<Vec<&mut O>> {
    let mut kinds = std::collections::BTreeMap::<u8, Vec<&mut O>>::new();
    for op in wave {
        kinds.entry(op.kind()).or_default().push(op);
    }
    kinds.into_values().collect()
}
