//! Events on PostgreSQL.

mod append;
mod order;
mod projection;
mod read;

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::event_store::{
    Advance, Append, AppendError, Appended, Begin, Checkpoint, Filter, Leased, NewBatch, Page,
    Position, ProjectionClaim, ProjectionLease, ProjectionState, Snapshot, Store, StoreStats,
    StreamId, StreamPage, StreamState, Swap, Version,
};

use super::PostgresStore;
use super::rows::Tx;
use crate::error::during;
use crate::events::{event_store, events_in_transactions};

event_store!(PostgresStore);
events_in_transactions!(PostgresStore, ['a] Tx<'a>, tx => &mut **tx);

/// Transactions of the store's pool.
impl Begin for PostgresStore {
    type Tx = Tx<'static>;

    async fn begin_transaction(&self) -> Answer<Tx<'static>> {
        self.begin().await
    }

    async fn commit_transaction(&self, tx: Tx<'static>) -> Answer<()> {
        let what = "committing a transaction";
        self.bounded(what, async { tx.commit().await.map_err(during(what)) }).await
    }
}

impl PostgresStore {
    /// Assigns positions to the events of a restored database. Takes as long as the server needs.
    ///
    /// A role without the rights of this part opens the store nevertheless, and so does a process that finds another
    /// one at it. The operations on events then repeat this first, and return its error.
    pub(super) async fn mend_the_order(&self) -> Answer<()> {
        match order::mended(self).await {
            Err(error) if error.may_pass() => Ok(()),
            done => done,
        }
    }
}
