//! A store in memory whose operations can fail.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::StoreError;

use super::super::*;
use crate::answer::Answer;

/// What becomes of the next append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It works.
    Works,
    /// It is not written, and the caller gets a transient error.
    Lost,
    /// It is written, and the caller gets a transient error.
    AnswerLost,
    /// The store refuses it with this kind.
    Refused(buttress::StoreErrorKind),
    /// Another writer appends an event of one item first.
    Overtaken,
}

/// A store in memory whose appends and commits follow lists of fates. Its operations let other tasks run before
/// and after them.
#[derive(Clone)]
pub(super) struct Faulty {
    pub memory: MemoryStore,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    commits: Arc<Mutex<VecDeque<Fate>>>,
    /// The version after which each read of a stream began.
    pub reads: Arc<Mutex<Vec<u64>>>,
    /// How many operations work before one panics.
    panics_after: Arc<AtomicUsize>,
    /// How long a read of all events takes.
    reading: Duration,
    readers: Arc<AtomicUsize>,
    /// The most reads of all events at the same time.
    pub most_readers: Arc<AtomicUsize>,
}

impl Faulty {
    pub(super) fn new(memory: MemoryStore, fates: impl IntoIterator<Item = Fate>) -> Self {
        let fates = Arc::new(Mutex::new(fates.into_iter().collect()));
        Self {
            memory,
            fates,
            commits: Arc::default(),
            reads: Arc::default(),
            panics_after: Arc::new(AtomicUsize::new(usize::MAX)),
            reading: Duration::ZERO,
            readers: Arc::default(),
            most_readers: Arc::default(),
        }
    }

    pub(super) fn reading_takes(self, reading: Duration) -> Self {
        Self { reading, ..self }
    }

    /// Lets one operation panic, after `operations` that work.
    pub(super) fn panics_after(self, operations: usize) -> Self {
        self.panics_after.store(operations, Ordering::Relaxed);
        self
    }

    pub(super) fn has_panicked(&self) -> bool {
        self.panics_after.load(Ordering::Relaxed) == usize::MAX
    }

    /// Lets other tasks run before and after an operation.
    async fn slowly<T>(&self, operation: impl Future<Output = T>) -> T {
        tokio::task::yield_now().await;
        if self.panics_after.load(Ordering::Relaxed) < usize::MAX {
            let left = self.panics_after.fetch_sub(1, Ordering::Relaxed);
            if left == 0 {
                self.panics_after.store(usize::MAX, Ordering::Relaxed);
                panic!("a bug in the store");
            }
        }
        let done = operation.await;
        tokio::task::yield_now().await;
        done
    }

    /// Sets the fates of the next commits.
    pub(super) fn commits(self, fates: impl IntoIterator<Item = Fate>) -> Self {
        self.commits.lock().unwrap().extend(fates);
        self
    }

    pub(super) fn left(&self) -> usize {
        self.fates.lock().unwrap().len()
    }
}

fn away() -> StoreError {
    StoreError::transient("away")
}

impl Store for Faulty {
    async fn append_batch(&self, batch: &NewBatch) -> Result<Appended, AppendError> {
        let fate = self.fates.lock().unwrap().pop_front().unwrap_or(Fate::Works);
        match fate {
            Fate::Lost => return Err(away().into()),
            Fate::Overtaken => {
                let event = NewEvent::new(
                    crate::outbox::MessageId::random(&buttress::Rng::default()),
                    "order.added",
                    r#"{"Added":{"number":1,"cents":1}}"#,
                );
                let first =
                    NewBatch::new(batch.stream.clone(), Expected::Any, vec![event.schema(2)]);
                self.memory.append_batch(&first).await?;
            }
            Fate::Works | Fate::AnswerLost | Fate::Refused(_) => {}
        }
        let done = self.slowly(self.memory.append_batch(batch)).await;
        if fate == Fate::AnswerLost { Err(away().into()) } else { done }
    }

    async fn read_stream(&self, id: &StreamId, after: Version, limit: usize) -> Answer<StreamPage> {
        self.reads.lock().unwrap().push(after.get());
        self.slowly(self.memory.read_stream(id, after, limit)).await
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Answer<Page> {
        let readers = self.readers.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_readers.fetch_max(readers, Ordering::Relaxed);
        if !self.reading.is_zero() {
            buttress::Clock::default().sleep(self.reading).await;
        }
        let page = self.slowly(self.memory.read_all(after, filter, limit)).await;
        self.readers.fetch_sub(1, Ordering::Relaxed);
        page
    }

    async fn stream_state(&self, stream: &StreamId) -> Answer<Option<StreamState>> {
        self.memory.stream_state(stream).await
    }

    async fn archive_stream(&self, stream: &StreamId) -> Answer<Option<Version>> {
        self.memory.archive_stream(stream).await
    }

    async fn load_snapshot(&self, stream: &StreamId) -> Answer<Option<Snapshot>> {
        self.memory.load_snapshot(stream).await
    }

    async fn save_snapshot(&self, snapshot: &Snapshot) -> Answer<()> {
        self.memory.save_snapshot(snapshot).await
    }

    async fn purge_snapshots(&self, kind: &str, limit: usize) -> Answer<usize> {
        self.memory.purge_snapshots(kind, limit).await
    }

    async fn lease_projection(&self, claim: ProjectionClaim<'_>) -> Answer<Option<Leased>> {
        self.slowly(self.memory.lease_projection(claim)).await
    }

    async fn release_projection(&self, lease: &ProjectionLease) -> Answer<()> {
        self.slowly(self.memory.release_projection(lease)).await
    }

    async fn advance_projection(&self, advance: &Advance) -> Answer<()> {
        self.slowly(self.memory.advance_projection(advance)).await
    }

    async fn swap_projection(&self, swap: &Swap) -> Answer<()> {
        let fate = self.commits.lock().unwrap().pop_front().unwrap_or(Fate::Works);
        let done = self.slowly(self.memory.swap_projection(swap)).await;
        if fate == Fate::AnswerLost { Err(away()) } else { done }
    }

    async fn projections(&self) -> Answer<Vec<ProjectionState>> {
        self.memory.projections().await
    }

    async fn remove_projection(&self, name: &str) -> Answer<bool> {
        self.memory.remove_projection(name).await
    }

    async fn event_stats(&self) -> Answer<StoreStats> {
        self.memory.event_stats().await
    }
}

impl Checkpoint<MemoryTransaction> for Faulty {
    async fn advance_in(&self, tx: &mut MemoryTransaction, advance: &Advance) -> Answer<()> {
        self.slowly(self.memory.advance_in(tx, advance)).await
    }

    async fn swap_in(&self, tx: &mut MemoryTransaction, swap: &Swap) -> Answer<()> {
        self.slowly(self.memory.swap_in(tx, swap)).await
    }
}

impl Begin for Faulty {
    type Tx = MemoryTransaction;

    async fn begin_transaction(&self) -> Answer<MemoryTransaction> {
        self.slowly(self.memory.begin_transaction()).await
    }

    async fn commit_transaction(&self, tx: MemoryTransaction) -> Answer<()> {
        let fate = self.commits.lock().unwrap().pop_front().unwrap_or(Fate::Works);
        match fate {
            Fate::Lost => return Err(away()),
            Fate::Refused(kind) => return Err(StoreError::new(kind, "a constraint")),
            _ => {}
        }
        let done = self.slowly(self.memory.commit_transaction(tx)).await;
        if fate == Fate::AnswerLost { Err(away()) } else { done }
    }
}
