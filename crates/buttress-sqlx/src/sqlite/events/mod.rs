//! Events on SQLite.

mod append;
mod projection;
mod read;

use buttress::StoreError;
use buttress::idempotency::Fingerprint;
use buttress_durable::Answer;
use buttress_durable::event_store::{
    Advance, Append, AppendError, Appended, Begin, Checkpoint, Filter, Leased, NewBatch, Page,
    Position, ProjectionClaim, ProjectionLease, ProjectionState, Snapshot, Store, StoreStats,
    StreamId, StreamPage, StreamState, Swap, Version,
};

use super::begin::InTransaction;
use super::{SqliteStore, SqliteTransaction};
use crate::events::{Refused, event_store, events_in_transactions};
use crate::queue::{Job, Op, pass_on};

pub(super) use append::write;

event_store!(SqliteStore);
events_in_transactions!(SqliteStore, [Tx: InTransaction] Tx, tx => tx.connection());

impl Begin for SqliteStore {
    type Tx = SqliteTransaction;

    async fn begin_transaction(&self) -> Answer<SqliteTransaction> {
        self.begin().await
    }

    async fn commit_transaction(&self, tx: SqliteTransaction) -> Answer<()> {
        tx.commit().await
    }
}

type AppendJob = Job<NewBatch, Result<Appended, Refused>>;

/// An append that the writer carries out.
pub(super) enum EventOp {
    Append(AppendJob),
}

impl Op for EventOp {
    fn subject(&self) -> u128 {
        let Self::Append(job) = self;
        Fingerprint::of(job.input.stream.to_string().as_bytes()).get()
    }

    fn rows(&self) -> usize {
        let Self::Append(job) = self;
        1 + job.input.events.len()
    }

    fn bytes(&self) -> usize {
        let Self::Append(job) = self;
        let bytes = |event: &buttress_durable::event_store::NewEvent| {
            let headers: usize =
                event.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            event.data.len() + headers
        };
        job.input.events.iter().map(bytes).sum()
    }

    pass_on!(Append);
}
