//! [`MemoryStore`]: events in memory, with transactions.

mod rows;
mod transaction;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buttress::{Clock, StoreError};
pub use transaction::MemoryTransaction;

use super::batch::{AppendError, Appended, NewBatch};
use super::checkpoint::{Advance, Leased, ProjectionClaim, ProjectionLease, ProjectionState, Swap};
use super::recorded::{Filter, Page, Snapshot, StoreStats, StreamPage, StreamState};
use super::store::{Append, Begin, Checkpoint, Store};
use super::stream::{Position, StreamId, Version};
use crate::answer::Answer;
use rows::Rows;

/// A store of events in memory, for tests and for events that need not survive the process. Clones share one store.
///
/// A transaction holds the streams that it appends to until it ends. Another transaction gets a transient error from
/// them meanwhile, where a database would let it wait.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress_durable::event_store::{
///     Expected, Filter, MemoryStore, NewBatch, NewEvent, Position, Store, StreamId,
/// };
/// use buttress_durable::outbox::MessageId;
///
/// let store = MemoryStore::new(buttress::Clock::default());
/// let placed = NewEvent::new(MessageId::new(1), "order.placed", "7 books");
/// let batch = NewBatch::new(StreamId::new("order", "7"), Expected::New, vec![placed]);
/// assert_eq!(store.append_batch(&batch).await?.last.get(), 1);
/// let page = store.read_all(Position::START, &Filter::all(), 100).await?;
/// assert_eq!(page.events[0].event.data, b"7 books");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    /// Guards all state. No user code runs under this lock.
    rows: Mutex<Rows>,
}

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        buttress::__simulated::check_clock("event_store::MemoryStore", &clock);
        Self { shared: Arc::new(Shared { clock, rows: Mutex::default() }) }
    }

    /// Begins a transaction.
    pub fn begin(&self) -> MemoryTransaction {
        let number = self.lock().begin();
        MemoryTransaction::new(self.clone(), number)
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.shared.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in a separate transaction, and commits it if it succeeds.
    fn alone<T, E>(
        &self,
        work: impl FnOnce(&mut MemoryTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut tx = self.begin();
        let done = work(&mut tx)?;
        tx.commit();
        Ok(done)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.lock().last();
        f.debug_struct("MemoryStore").field("events", &events.get()).finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    async fn append_batch(&self, batch: &NewBatch) -> Result<Appended, AppendError> {
        self.alone(|tx| tx.append(batch))
    }

    async fn read_stream(&self, id: &StreamId, after: Version, limit: usize) -> Answer<StreamPage> {
        id.check()?;
        Ok(self.lock().read(id, &[], after, limit))
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Answer<Page> {
        filter.check().map_err(|error| StoreError::invalid(error.to_string()))?;
        Ok(self.lock().read_all(after, filter, limit))
    }

    async fn stream_state(&self, stream: &StreamId) -> Answer<Option<StreamState>> {
        stream.check()?;
        let state = self.lock().state(stream);
        Ok((state.version > Version::START).then_some(state))
    }

    async fn archive_stream(&self, stream: &StreamId) -> Answer<Option<Version>> {
        stream.check()?;
        self.lock().archive(stream)
    }

    async fn load_snapshot(&self, stream: &StreamId) -> Answer<Option<Snapshot>> {
        stream.check()?;
        Ok(self.lock().snapshots.get(stream).cloned())
    }

    async fn save_snapshot(&self, snapshot: &Snapshot) -> Answer<()> {
        snapshot.check()?;
        self.lock().save(snapshot);
        Ok(())
    }

    async fn purge_snapshots(&self, kind: &str, limit: usize) -> Answer<usize> {
        let snapshots = &mut self.lock().snapshots;
        let found = snapshots.keys().filter(|stream| stream.kind() == kind).take(limit);
        let found: Vec<StreamId> = found.cloned().collect();
        for stream in &found {
            snapshots.remove(stream);
        }
        Ok(found.len())
    }

    async fn lease_projection(&self, claim: ProjectionClaim<'_>) -> Answer<Option<Leased>> {
        let now = self.shared.clock.now();
        self.lock().lease(claim, now)
    }

    async fn release_projection(&self, lease: &ProjectionLease) -> Answer<()> {
        self.lock().release(lease)
    }

    async fn advance_projection(&self, advance: &Advance) -> Answer<()> {
        self.alone(|tx| tx.advance(advance))
    }

    async fn swap_projection(&self, swap: &Swap) -> Answer<()> {
        self.alone(|tx| tx.swap(swap))
    }

    async fn projections(&self) -> Answer<Vec<ProjectionState>> {
        let (now, unix) = (self.shared.clock.now(), self.shared.clock.unix());
        Ok(self.lock().states(now, unix))
    }

    async fn remove_projection(&self, name: &str) -> Answer<bool> {
        self.lock().remove(name)
    }

    async fn event_stats(&self) -> Answer<StoreStats> {
        Ok(StoreStats::new(self.lock().last()))
    }
}

impl Append<MemoryTransaction> for MemoryStore {
    async fn append_in(
        &self,
        tx: &mut MemoryTransaction,
        batch: &NewBatch,
    ) -> Result<Appended, AppendError> {
        tx.append(batch)
    }

    async fn read_stream_in(
        &self,
        tx: &mut MemoryTransaction,
        stream: &StreamId,
        after: Version,
        limit: usize,
    ) -> Answer<StreamPage> {
        stream.check()?;
        Ok(tx.read(stream, after, limit))
    }

    async fn load_snapshot_in(
        &self,
        _tx: &mut MemoryTransaction,
        stream: &StreamId,
    ) -> Answer<Option<Snapshot>> {
        self.load_snapshot(stream).await
    }
}

impl Checkpoint<MemoryTransaction> for MemoryStore {
    async fn advance_in(&self, tx: &mut MemoryTransaction, advance: &Advance) -> Answer<()> {
        tx.advance(advance)
    }

    async fn swap_in(&self, tx: &mut MemoryTransaction, swap: &Swap) -> Answer<()> {
        tx.swap(swap)
    }
}

impl Begin for MemoryStore {
    type Tx = MemoryTransaction;

    async fn begin_transaction(&self) -> Answer<MemoryTransaction> {
        Ok(self.begin())
    }

    async fn commit_transaction(&self, tx: MemoryTransaction) -> Answer<()> {
        tx.commit();
        Ok(())
    }
}
