//! [`BoxStore`]: a store of messages without its type.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::message::MessageId;
use super::store::{Backlog, DeadLetter, Fetched, Lease, Owned, RelayId, Renewal, Settled, Store};
use crate::answer::{Answer, Fut};

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
    fn lease_partitions<'a>(&'a self, renewal: Renewal<'a>) -> Fut<'a, Owned>;

    fn release_partitions<'a>(&'a self, relay: RelayId) -> Fut<'a, ()>;

    fn fetch<'a>(&'a self, relay: RelayId, leases: &'a [Lease], limit: usize) -> Fut<'a, Fetched>;

    fn record_start<'a>(&'a self, lease: Lease, id: MessageId, claim: u64) -> Fut<'a, u32>;

    fn clear_suspects<'a>(&'a self, lease: Lease) -> Fut<'a, ()>;

    fn settle<'a>(&'a self, settled: Vec<Settled>) -> Fut<'a, Vec<u16>>;

    fn dead_letters<'a>(&'a self, after: u64, limit: usize) -> Fut<'a, Vec<DeadLetter>>;

    fn requeue<'a>(&'a self, ids: &'a [MessageId]) -> Fut<'a, usize>;

    fn discard<'a>(&'a self, ids: &'a [MessageId]) -> Fut<'a, usize>;

    fn backlog<'a>(&'a self) -> Fut<'a, Backlog>;

    fn purge_receipts<'a>(&'a self, age: Duration, limit: usize) -> Fut<'a, usize>;

    fn purge_delivered<'a>(&'a self, age: Duration, limit: usize) -> Fut<'a, usize>;

    fn receipts_kept(&self) -> Option<Duration>;
}

impl<S: Store> Boxed for S {
    fn lease_partitions<'a>(&'a self, renewal: Renewal<'a>) -> Fut<'a, Owned> {
        Box::pin(Store::lease_partitions(self, renewal))
    }

    fn release_partitions<'a>(&'a self, relay: RelayId) -> Fut<'a, ()> {
        Box::pin(Store::release_partitions(self, relay))
    }

    fn fetch<'a>(&'a self, relay: RelayId, leases: &'a [Lease], limit: usize) -> Fut<'a, Fetched> {
        Box::pin(Store::fetch(self, relay, leases, limit))
    }

    fn record_start<'a>(&'a self, lease: Lease, id: MessageId, claim: u64) -> Fut<'a, u32> {
        Box::pin(Store::record_start(self, lease, id, claim))
    }

    fn clear_suspects<'a>(&'a self, lease: Lease) -> Fut<'a, ()> {
        Box::pin(Store::clear_suspects(self, lease))
    }

    fn settle<'a>(&'a self, settled: Vec<Settled>) -> Fut<'a, Vec<u16>> {
        Box::pin(Store::settle(self, settled))
    }

    fn dead_letters<'a>(&'a self, after: u64, limit: usize) -> Fut<'a, Vec<DeadLetter>> {
        Box::pin(Store::dead_letters(self, after, limit))
    }

    fn requeue<'a>(&'a self, ids: &'a [MessageId]) -> Fut<'a, usize> {
        Box::pin(Store::requeue(self, ids))
    }

    fn discard<'a>(&'a self, ids: &'a [MessageId]) -> Fut<'a, usize> {
        Box::pin(Store::discard(self, ids))
    }

    fn backlog<'a>(&'a self) -> Fut<'a, Backlog> {
        Box::pin(Store::backlog(self))
    }

    fn purge_receipts<'a>(&'a self, age: Duration, limit: usize) -> Fut<'a, usize> {
        Box::pin(Store::purge_receipts(self, age, limit))
    }

    fn purge_delivered<'a>(&'a self, age: Duration, limit: usize) -> Fut<'a, usize> {
        Box::pin(Store::purge_delivered(self, age, limit))
    }

    fn receipts_kept(&self) -> Option<Duration> {
        Store::receipts_kept(self)
    }
}

impl Store for BoxStore {
    async fn lease_partitions(&self, renewal: Renewal<'_>) -> Answer<Owned> {
        self.store.lease_partitions(renewal).await
    }

    async fn release_partitions(&self, relay: RelayId) -> Answer<()> {
        self.store.release_partitions(relay).await
    }

    async fn fetch(&self, relay: RelayId, leases: &[Lease], limit: usize) -> Answer<Fetched> {
        self.store.fetch(relay, leases, limit).await
    }

    async fn record_start(&self, lease: Lease, id: MessageId, claim: u64) -> Answer<u32> {
        self.store.record_start(lease, id, claim).await
    }

    async fn clear_suspects(&self, lease: Lease) -> Answer<()> {
        self.store.clear_suspects(lease).await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Answer<Vec<u16>> {
        self.store.settle(settled).await
    }

    async fn dead_letters(&self, after: u64, limit: usize) -> Answer<Vec<DeadLetter>> {
        self.store.dead_letters(after, limit).await
    }

    async fn requeue(&self, ids: &[MessageId]) -> Answer<usize> {
        self.store.requeue(ids).await
    }

    async fn discard(&self, ids: &[MessageId]) -> Answer<usize> {
        self.store.discard(ids).await
    }

    async fn backlog(&self) -> Answer<Backlog> {
        self.store.backlog().await
    }

    async fn purge_receipts(&self, age: Duration, limit: usize) -> Answer<usize> {
        self.store.purge_receipts(age, limit).await
    }

    async fn purge_delivered(&self, age: Duration, limit: usize) -> Answer<usize> {
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
