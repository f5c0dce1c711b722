//! The writer: one task per store, which writes the operations of its callers in one transaction.

use std::time::Duration;

use buttress::{Clock, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::gate::Gate;
use super::relaying::RelayOp;
use super::watch::Watch;
use super::{idempotency, outbox, saga};
use crate::claims::ClaimOp;
use crate::error::{batch_failed, too_slow};
use crate::log::LogOp;
use crate::queue::{Batch, Intake, Op};
use crate::time::{nanos, within};

/// An operation of the writer.
pub(super) enum WriteOp {
    Log(LogOp),
    Claim(ClaimOp),
    Relay(RelayOp),
}

impl Op for WriteOp {
    fn subject(&self) -> u128 {
        match self {
            Self::Log(op) => op.subject(),
            Self::Claim(op) => op.subject(),
            Self::Relay(op) => op.subject(),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Log(op) => op.rows(),
            Self::Claim(op) => op.rows(),
            Self::Relay(op) => op.rows(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Log(op) => op.bytes(),
            Self::Claim(op) => op.bytes(),
            Self::Relay(op) => op.bytes(),
        }
    }

    fn is_abandoned(&self) -> bool {
        match self {
            Self::Log(op) => op.is_abandoned(),
            Self::Claim(op) => op.is_abandoned(),
            Self::Relay(op) => op.is_abandoned(),
        }
    }

    fn reset(&mut self) {
        match self {
            Self::Log(op) => op.reset(),
            Self::Claim(op) => op.reset(),
            Self::Relay(op) => op.reset(),
        }
    }

    fn answer(self, committed: Result<(), &StoreError>) {
        match self {
            Self::Log(op) => op.answer(committed),
            Self::Claim(op) => op.answer(committed),
            Self::Relay(op) => op.answer(committed),
        }
    }
}

/// The state of the writer.
pub(super) struct Writer {
    pub(super) options: SqliteConnectOptions,
    pub(super) gate: Gate,
    pub(super) watch: Watch,
    pub(super) clock: Clock,
    pub(super) acquire_timeout: Duration,
    /// How long one transaction may take.
    pub(super) operation_timeout: Duration,
    /// `None` before the first batch, and after a batch that failed.
    pub(super) connection: Option<SqliteConnection>,
}

impl Writer {
    /// Writes until the store is dropped.
    pub(super) async fn run(mut self, mut intake: Intake<WriteOp>) {
        while let Some(mut batch) = intake.begin().await {
            let committed = self.turn(Some(&mut intake), &mut batch).await;
            if committed.as_ref().is_err_and(|error| batch.is_to_be_split(error)) {
                for mut alone in batch.singly() {
                    let committed = self.turn(None, &mut alone).await;
                    alone.answer(committed.as_ref().copied());
                }
                continue;
            }
            // The callers log the error: they know which of their failures begins an outage.
            if let Err(error) = &committed {
                tracing::debug!(%error, "a batch of a store was not written");
            }
            batch.answer(committed.as_ref().copied());
        }
        if let Some(connection) = self.connection.take() {
            let _closing = within(self.operation_timeout, connection.close()).await;
        }
    }

    async fn turn(
        &mut self,
        intake: Option<&mut Intake<WriteOp>>,
        batch: &mut Batch<WriteOp>,
    ) -> Result<(), StoreError> {
        let turn = self.gate.enter(self.acquire_timeout).await?;
        // Adds operations that came during the wait for the turn.
        if let Some(intake) = intake {
            intake.fill(batch);
        }
        let limit = self.operation_timeout;
        // A new connection must not write to a file that replaced the opened one.
        if self.connection.is_none() {
            self.watch.check()?;
        }
        let written = within(limit, self.write(batch)).await;
        let outcome = match written {
            // Checked before any caller gets the answer.
            Some(Ok(())) => match self.watch.check() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Some(Err(error)) => batch_failed("writing a batch", error),
            None => too_slow("writing a batch", limit),
        };
        // The state of the connection is unknown, so it is closed. Its transaction ends before the
        // next writer has its turn, unless the close hangs.
        if let Some(connection) = self.connection.take() {
            let _closing = within(Duration::from_secs(1), connection.close_hard()).await;
        }
        drop(turn);
        Err(outcome)
    }

    async fn write(&mut self, batch: &mut Batch<WriteOp>) -> Result<(), sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.options.connect().await?),
        };
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        // Read after the wait for the turn, because leases count from now.
        let now = nanos(self.clock.unix());
        for wave in batch.waves() {
            let mut logs = Vec::new();
            let mut claims = Vec::new();
            let mut relays = Vec::new();
            for op in wave {
                match op {
                    WriteOp::Log(op) => logs.push(op),
                    WriteOp::Claim(op) => claims.push(op),
                    WriteOp::Relay(op) => relays.push(op),
                }
            }
            saga::write(&mut tx, now, logs).await?;
            idempotency::batch::write(&mut tx, now, claims).await?;
            outbox::settle::write(&mut tx, now, relays).await?;
        }
        tx.commit().await
    }
}
