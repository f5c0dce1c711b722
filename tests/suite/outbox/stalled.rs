//! A store with operations that can be stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buttress::StoreError;
use buttress_durable::outbox::{
    Backlog, DeadLetter, Fetched, Lease, MemoryStore, MessageId, Owned, RelayId, Settled, Store,
};

/// A [`MemoryStore`] whose operations can be made to fail.
#[derive(Clone, Debug)]
pub(super) struct Stalled {
    inner: MemoryStore,
    /// Renewals fail.
    pub(super) renews_nothing: Arc<AtomicBool>,
    /// Ends of deliveries are not recorded.
    pub(super) settles_nothing: Arc<AtomicBool>,
}

impl Stalled {
    pub(super) fn over(store: &MemoryStore) -> Self {
        let inner = store.clone();
        Self { inner, renews_nothing: Arc::default(), settles_nothing: Arc::default() }
    }
}

impl Store for Stalled {
    async fn lease_partitions(
        &self,
        relay: RelayId,
        lease: Duration,
        busy: &[u16],
    ) -> Result<Owned, StoreError> {
        match self.renews_nothing.load(Ordering::SeqCst) {
            true => Err(StoreError::transient("away")),
            false => self.inner.lease_partitions(relay, lease, busy).await,
        }
    }

    async fn release_partitions(&self, relay: RelayId) -> Result<(), StoreError> {
        self.inner.release_partitions(relay).await
    }

    async fn fetch(
        &self,
        relay: RelayId,
        leases: &[Lease],
        limit: usize,
    ) -> Result<Fetched, StoreError> {
        self.inner.fetch(relay, leases, limit).await
    }

    async fn record_start(
        &self,
        lease: Lease,
        id: MessageId,
        claim: u64,
    ) -> Result<u32, StoreError> {
        self.inner.record_start(lease, id, claim).await
    }

    async fn clear_suspects(&self, lease: Lease) -> Result<(), StoreError> {
        self.inner.clear_suspects(lease).await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Result<Vec<u16>, StoreError> {
        if self.settles_nothing.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.inner.settle(settled).await
    }

    async fn dead_letters(&self, after: u64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.inner.dead_letters(after, limit).await
    }

    async fn requeue(&self, ids: &[MessageId]) -> Result<usize, StoreError> {
        self.inner.requeue(ids).await
    }

    async fn discard(&self, ids: &[MessageId]) -> Result<usize, StoreError> {
        self.inner.discard(ids).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.inner.backlog().await
    }

    async fn purge_delivered(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        self.inner.purge_delivered(age, limit).await
    }
}
