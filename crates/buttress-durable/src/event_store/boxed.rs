//! [`BoxStore`]: a store of events without its type.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::batch::{AppendError, Appended, NewBatch};
use super::checkpoint::{Advance, Leased, ProjectionClaim, ProjectionLease, ProjectionState, Swap};
use super::recorded::{Filter, Page, Snapshot, StoreStats, StreamPage, StreamState};
use super::store::Store;
use super::stream::{Position, StreamId, Version};
use crate::answer::{Answer, Fut};
use crate::boxed::boxed;
use crate::causes::AnyStdError;

/// A store of events with its type erased. An application then needs no type parameter for the store.
///
/// It has the operations of [`Store`] only: operations in a transaction need the type of the store. Clones share one
/// store. Each operation allocates its future.
#[derive(Clone)]
pub struct BoxStore {
    store: Arc<dyn Boxed>,
}

impl BoxStore {
    /// Erases the type of `store`.
    #[must_use]
    pub fn new(store: impl Store) -> Self {
        Self { store: Arc::new(store) }
    }
}

impl fmt::Debug for BoxStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxStore").finish_non_exhaustive()
    }
}

type Appending<'a> = Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + Send + 'a>>;

boxed! {
    { is_outage(error: &AnyStdError) -> bool; }
    append_batch(batch: &'a NewBatch) -> Appending<'a>;
    read_stream(stream: &'a StreamId, after: Version, limit: usize) -> Fut<'a, StreamPage>;
    read_all(after: Position, filter: &'a Filter, limit: usize) -> Fut<'a, Page>;
    stream_state(stream: &'a StreamId) -> Fut<'a, Option<StreamState>>;
    archive_stream(stream: &'a StreamId) -> Fut<'a, Option<Version>>;
    load_snapshot(stream: &'a StreamId) -> Fut<'a, Option<Snapshot>>;
    save_snapshot(snapshot: &'a Snapshot) -> Fut<'a, ()>;
    purge_snapshots(kind: &'a str, limit: usize) -> Fut<'a, usize>;
    lease_projection(claim: ProjectionClaim<'a>) -> Fut<'a, Option<Leased>>;
    release_projection(lease: &'a ProjectionLease) -> Fut<'a, ()>;
    advance_projection(advance: &'a Advance) -> Fut<'a, ()>;
    swap_projection(swap: &'a Swap) -> Fut<'a, ()>;
    projections() -> Fut<'a, Vec<ProjectionState>>;
    remove_projection(name: &'a str) -> Fut<'a, bool>;
    event_stats() -> Fut<'a, StoreStats>;
}

impl Store for BoxStore {
    async fn append_batch(&self, batch: &NewBatch) -> Result<Appended, AppendError> {
        self.store.append_batch(batch).await
    }

    async fn read_stream(&self, id: &StreamId, after: Version, limit: usize) -> Answer<StreamPage> {
        self.store.read_stream(id, after, limit).await
    }

    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Answer<Page> {
        self.store.read_all(after, filter, limit).await
    }

    async fn stream_state(&self, stream: &StreamId) -> Answer<Option<StreamState>> {
        self.store.stream_state(stream).await
    }

    async fn archive_stream(&self, stream: &StreamId) -> Answer<Option<Version>> {
        self.store.archive_stream(stream).await
    }

    fn is_outage(&self, error: &AnyStdError) -> bool {
        self.store.is_outage(error)
    }

    async fn load_snapshot(&self, stream: &StreamId) -> Answer<Option<Snapshot>> {
        self.store.load_snapshot(stream).await
    }

    async fn save_snapshot(&self, snapshot: &Snapshot) -> Answer<()> {
        self.store.save_snapshot(snapshot).await
    }

    async fn purge_snapshots(&self, kind: &str, limit: usize) -> Answer<usize> {
        self.store.purge_snapshots(kind, limit).await
    }

    async fn lease_projection(&self, claim: ProjectionClaim<'_>) -> Answer<Option<Leased>> {
        self.store.lease_projection(claim).await
    }

    async fn release_projection(&self, lease: &ProjectionLease) -> Answer<()> {
        self.store.release_projection(lease).await
    }

    async fn advance_projection(&self, advance: &Advance) -> Answer<()> {
        self.store.advance_projection(advance).await
    }

    async fn swap_projection(&self, swap: &Swap) -> Answer<()> {
        self.store.swap_projection(swap).await
    }

    async fn projections(&self) -> Answer<Vec<ProjectionState>> {
        self.store.projections().await
    }

    async fn remove_projection(&self, name: &str) -> Answer<bool> {
        self.store.remove_projection(name).await
    }

    async fn event_stats(&self) -> Answer<StoreStats> {
        self.store.event_stats().await
    }
}
