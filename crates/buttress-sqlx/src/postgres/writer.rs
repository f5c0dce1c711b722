//! The writers: tasks that put what their callers ask for into one statement.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::connect::prepare;
use super::sql::Sql;
use crate::error::{batch_failed, too_slow};
use crate::queue::{Batch, Intake, Op};
use crate::time::within;

/// Operations that are written together.
pub(super) trait Together: Op {
    /// Carries out operations of one wave: no subject comes up twice. Each statement is a transaction
    /// of its own.
    fn write(
        connection: &mut PgConnection,
        sql: &Sql,
        ops: Vec<&mut Self>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// What a writer needs.
pub(super) struct Writer {
    pub(super) options: PgConnectOptions,
    pub(super) setup: Arc<str>,
    pub(super) sql: Sql,
    /// How long one batch may take.
    pub(super) operation_timeout: Duration,
    /// None before the first batch, and after one that failed.
    pub(super) connection: Option<PgConnection>,
}

impl Writer {
    /// Writes until the store is gone.
    pub(super) async fn run<O: Together>(mut self, mut intake: Intake<O>) {
        while let Some(mut batch) = intake.begin().await {
            intake.fill(&mut batch);
            let limit = self.operation_timeout;
            let written = within(limit, self.write(&mut batch)).await;
            let written = match written {
                Some(Ok(())) => Ok(()),
                Some(Err(error)) => Err(batch_failed("writing a batch", error)),
                None => Err(too_slow("writing a batch", limit)),
            };
            if let Err(error) = &written {
                tracing::warn!(%error, "a batch of a store was not written");
                // Nobody knows in what state it is; a new one knows.
                self.connection = None;
            }
            batch.answer(written.as_ref().copied());
        }
        if let Some(connection) = self.connection.take() {
            let _closing = within(self.operation_timeout, connection.close()).await;
        }
    }

    async fn write<O: Together>(&mut self, batch: &mut Batch<O>) -> Result<(), sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let mut connection = self.options.connect().await?;
                prepare(&mut connection, Arc::clone(&self.setup)).await?;
                none.insert(connection)
            }
        };
        for wave in batch.waves() {
            O::write(connection, &self.sql, wave).await?;
        }
        Ok(())
    }
}
