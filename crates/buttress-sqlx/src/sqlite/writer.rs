//! The writer: one task for each store, which puts what its callers ask for into one transaction.

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

/// What goes through the writer.
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

/// What the writer needs.
pub(super) struct Writer {
    pub(super) options: SqliteConnectOptions,
    pub(super) gate: Gate,
    pub(super) watch: Watch,
    pub(super) clock: Clock,
    pub(super) acquire_timeout: Duration,
    /// How long one transaction may take.
    pub(super) operation_timeout: Duration,
    /// None before the first batch, and after one that failed.
    pub(super) connection: Option<SqliteConnection>,
}

impl Writer {
    /// Writes until the store is gone.
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
            // The callers log it: in an outage they know which of their failures is the first.
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
        // Whatever came while others wrote.
        if let Some(intake) = intake {
            intake.fill(batch);
        }
        let limit = self.operation_timeout;
        // A new connection must not write to a file that took the place of the one that was opened.
        if self.connection.is_none() {
            self.watch.check()?;
        }
        let written = within(limit, self.write(batch)).await;
        let outcome = match written {
            // Before anybody is told that it is done.
            Some(Ok(())) => match self.watch.check() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Some(Err(error)) => batch_failed("writing a batch", error),
            None => too_slow("writing a batch", limit),
        };
        // Nobody knows in what state it is; a new one knows. It is gone, and its transaction with it,
        // before others have their turn, unless it hangs.
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
        // Read once it is our turn: leases are counted from then.
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
            idempotency::write(&mut tx, now, claims).await?;
            outbox::settle::write(&mut tx, now, relays).await?;
        }
        tx.commit().await
    }
}
