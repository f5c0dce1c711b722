//! [`BoxStore`]: a store of messages without its type.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use buttress::StoreError;

use super::message::MessageId;
use super::store::{Backlog, DeadLetter, Fetched, Lease, Owned, RelayId, Settled, Store};

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A store of messages with its type erased. An application then needs no type parameter for the
/// store.
///
/// Clones share one store. Each operation allocates its future.
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

/// A [`Store`] whose methods return boxed futures, so that it can be a trait object.
trait Boxed: Send + Sync {
    fn lease_partitions<'a>(
        &'a self,
        relay: RelayId,
        lease: Duration,
        busy: &'a [u16],
    ) -> Answer<'a, Owned>;

    fn release_partitions<'a>(&'a self, relay: RelayId) -> Answer<'a, ()>;

    fn fetch<'a>(
        &'a self,
        relay: RelayId,
        leases: &'a [Lease],
        limit: usize,
    ) -> Answer<'a, Fetched>;

    fn record_start<'a>(&'a self, lease: Lease, id: MessageId, claim: u64) -> Answer<'a, u32>;

    fn clear_suspects<'a>(&'a self, lease: Lease) -> Answer<'a, ()>;

    fn settle<'a>(&'a self, settled: Vec<Settled>) -> Answer<'a, Vec<u16>>;

    fn dead_letters<'a>(&'a self, after: u64, limit: usize) -> Answer<'a, Vec<DeadLetter>>;

    fn requeue<'a>(&'a self, ids: &'a [MessageId]) -> Answer<'a, usize>;

    fn discard<'a>(&'a self, ids: &'a [MessageId]) -> Answer<'a, usize>;

    fn backlog<'a>(&'a self) -> Answer<'a, Backlog>;

    fn purge_receipts<'a>(&'a self, age: Duration, limit: usize) -> Answer<'a, usize>;

    fn purge_delivered<'a>(&'a self, age: Duration, limit: usize) -> Answer<'a, usize>;

    fn receipts_kept(&self) -> Option<Duration>;
}

impl<S: Store> Boxed for S {
    fn lease_partitions<'a>(
        &'a self,
        relay: RelayId,
        lease: Duration,
        busy: &'a [u16],
    ) -> Answer<'a, Owned> {
        Box::pin(Store::lease_partitions(self, relay, lease, busy))
    }

    fn release_partitions<'a>(&'a self, relay: RelayId) -> Answer<'a, ()> {
        Box::pin(Store::release_partitions(self, relay))
    }

    fn fetch<'a>(
        &'a self,
        relay: RelayId,
        leases: &'a [Lease],
        limit: usize,
    ) -> Answer<'a, Fetched> {
        Box::pin(Store::fetch(self, relay, leases, limit))
    }

    fn record_start<'a>(&'a self, lease: Lease, id: MessageId, claim: u64) -> Answer<'a, u32> {
        Box::pin(Store::record_start(self, lease, id, claim))
    }

    fn clear_suspects<'a>(&'a self, lease: Lease) -> Answer<'a, ()> {
        Box::pin(Store::clear_suspects(self, lease))
    }

    fn settle<'a>(&'a self, settled: Vec<Settled>) -> Answer<'a, Vec<u16>> {
        Box::pin(Store::settle(self, settled))
    }

    fn dead_letters<'a>(&'a self, after: u64, limit: usize) -> Answer<'a, Vec<DeadLetter>> {
        Box::pin(Store::dead_letters(self, after, limit))
    }

    fn requeue<'a>(&'a self, ids: &'a [MessageId]) -> Answer<'a, usize> {
        Box::pin(Store::requeue(self, ids))
    }

    fn discard<'a>(&'a self, ids: &'a [MessageId]) -> Answer<'a, usize> {
        Box::pin(Store::discard(self, ids))
    }

    fn backlog<'a>(&'a self) -> Answer<'a, Backlog> {
        Box::pin(Store::backlog(self))
    }

    fn purge_receipts<'a>(&'a self, age: Duration, limit: usize) -> Answer<'a, usize> {
        Box::pin(Store::purge_receipts(self, age, limit))
    }

    fn purge_delivered<'a>(&'a self, age: Duration, limit: usize) -> Answer<'a, usize> {
        Box::pin(Store::purge_delivered(self, age, limit))
    }

    fn receipts_kept(&self) -> Option<Duration> {
        Store::receipts_kept(self)
    }
}

impl Store for BoxStore {
    async fn lease_partitions(
        &self,
        relay: RelayId,
        lease: Duration,
        busy: &[u16],
    ) -> Result<Owned, StoreError> {
        self.store.lease_partitions(relay, lease, busy).await
    }

    async fn release_partitions(&self, relay: RelayId) -> Result<(), StoreError> {
        self.store.release_partitions(relay).await
    }

    async fn fetch(
        &self,
        relay: RelayId,
        leases: &[Lease],
        limit: usize,
    ) -> Result<Fetched, StoreError> {
        self.store.fetch(relay, leases, limit).await
    }

    async fn record_start(
        &self,
        lease: Lease,
        id: MessageId,
        claim: u64,
    ) -> Result<u32, StoreError> {
        self.store.record_start(lease, id, claim).await
    }

    async fn clear_suspects(&self, lease: Lease) -> Result<(), StoreError> {
        self.store.clear_suspects(lease).await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Result<Vec<u16>, StoreError> {
        self.store.settle(settled).await
    }

    async fn dead_letters(&self, after: u64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.store.dead_letters(after, limit).await
    }

    async fn requeue(&self, ids: &[MessageId]) -> Result<usize, StoreError> {
        self.store.requeue(ids).await
    }

    async fn discard(&self, ids: &[MessageId]) -> Result<usize, StoreError> {
        self.store.discard(ids).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.store.backlog().await
    }

    async fn purge_receipts(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        self.store.purge_receipts(age, limit).await
    }

    async fn purge_delivered(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        self.store.purge_delivered(age, limit).await
    }

    fn receipts_kept(&self) -> Option<Duration> {
        self.store.receipts_kept()
    }
}

impl Clone for BoxStore {
    fn clone(&self) -> Self {
        Self { store: self.store.clone() }
    }
}

impl fmt::Debug for BoxStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxStore").finish_non_exhaustive()
    }
}
