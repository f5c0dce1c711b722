//! The writer: one task per store, which writes the operations of its callers in one transaction.

use std::time::Duration;

use buttress::{Clock, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::connect::SqliteConfig;
#[cfg(feature = "events")]
use super::events::EventOp;
use super::gate::Gate;
#[cfg(feature = "outbox")]
use super::relaying::RelayOp;
use super::watch::Watch;
use crate::error::{batch_failed, too_slow};
#[cfg(feature = "idempotency")]
use crate::idempotency::ClaimOp;
use crate::queue::{Batch, Intake, Limits, Op, Queue, pass_on};
#[cfg(feature = "saga")]
use crate::saga::LogOp;
use crate::time::{nanos, within};

/// Defines the operations of the writer: an enum over the operations of each part.
macro_rules! write_ops {
    ($($(#[$attribute:meta])* $variant:ident($op:ty))+) => {
        /// An operation of the writer.
        pub(super) enum WriteOp {
            $($(#[$attribute])* $variant($op),)+
        }

        impl Op for WriteOp {
            fn subject(&self) -> u128 {
                match self {
                    $($(#[$attribute])* Self::$variant(op) => op.subject(),)+
                }
            }

            fn rows(&self) -> usize {
                match self {
                    $($(#[$attribute])* Self::$variant(op) => op.rows(),)+
                }
            }

            fn bytes(&self) -> usize {
                match self {
                    $($(#[$attribute])* Self::$variant(op) => op.bytes(),)+
                }
            }

            pass_on!($($(#[$attribute])* $variant)+);
        }
    };
}

write_ops! {
    #[cfg(feature = "saga")]
    Log(LogOp)
    #[cfg(feature = "idempotency")]
    Claim(ClaimOp)
    #[cfg(feature = "outbox")]
    Relay(RelayOp)
    #[cfg(feature = "events")]
    Event(EventOp)
}

/// The most bytes of one transaction of the writer, unless one operation alone is larger.
const BATCH_BYTES: usize = 1 << 20;

/// The state of the writer.
pub(super) struct Writer {
    options: SqliteConnectOptions,
    gate: Gate,
    watch: Watch,
    clock: Clock,
    acquire_timeout: Duration,
    /// How long one transaction may take.
    operation_timeout: Duration,
    /// `None` before the first batch, and after a batch that failed.
    connection: Option<SqliteConnection>,
}

impl Writer {
    /// Starts the writer of a store, and returns its queue.
    pub(super) fn start(config: &SqliteConfig, gate: &Gate, watch: &Watch) -> Queue<WriteOp> {
        let limits = Limits { rows: config.settings.batch_rows, bytes: BATCH_BYTES };
        let (queue, intake) =
            Queue::new(config.settings.queue, config.settings.operation_timeout, limits);
        let writer = Self {
            options: config.options(false),
            gate: gate.clone(),
            watch: watch.clone(),
            clock: config.clock.clone(),
            acquire_timeout: config.settings.acquire_timeout,
            operation_timeout: config.settings.operation_timeout,
            connection: None,
        };
        config.settings.spawner.spawn(writer.run(intake));
        queue
    }

    /// Writes until the store is dropped.
    async fn run(mut self, mut intake: Intake<WriteOp>) {
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

    async fn write(&mut self, batch: &mut Batch<WriteOp>) -> sqlx::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.options.connect().await?),
        };
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        // Read after the wait for the turn, because leases count from now.
        let now = nanos(self.clock.unix());
        for wave in batch.waves() {
            #[cfg(feature = "saga")]
            let mut logs = Vec::new();
            #[cfg(feature = "idempotency")]
            let mut claims = Vec::new();
            #[cfg(feature = "outbox")]
            let mut relays = Vec::new();
            #[cfg(feature = "events")]
            let mut events = Vec::new();
            for op in wave {
                match op {
                    #[cfg(feature = "saga")]
                    WriteOp::Log(op) => logs.push(op),
                    #[cfg(feature = "idempotency")]
                    WriteOp::Claim(op) => claims.push(op),
                    #[cfg(feature = "outbox")]
                    WriteOp::Relay(op) => relays.push(op),
                    #[cfg(feature = "events")]
                    WriteOp::Event(op) => events.push(op),
                }
            }
            #[cfg(feature = "saga")]
            super::saga::write(&mut tx, now, logs).await?;
            #[cfg(feature = "idempotency")]
            super::idempotency::batch::write(&mut tx, now, claims).await?;
            #[cfg(feature = "outbox")]
            super::outbox::settle::write(&mut tx, now, relays).await?;
            #[cfg(feature = "events")]
            super::events::write(&mut tx, now, events).await?;
        }
        tx.commit().await
    }
}
