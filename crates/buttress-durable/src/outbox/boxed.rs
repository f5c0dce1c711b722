//! [`BoxStore`]: a store of messages without its type.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::message::MessageId;
use super::store::{Backlog, DeadLetter, Fetched, Lease, Owned, RelayId, Renewal, Settled, Store};
use crate::answer::{Answer, Fut};
use crate::boxed::boxed;

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

boxed! {
    {
        receipts_kept() -> Option<Duration>;
    }
    lease_partitions(renewal: Renewal<'a>) -> Fut<'a, Owned>;
    release_partitions(relay: RelayId) -> Fut<'a, ()>;
    fetch(relay: RelayId, leases: &'a [Lease], limit: usize) -> Fut<'a, Fetched>;
    record_start(lease: Lease, id: MessageId, claim: u64) -> Fut<'a, u32>;
    clear_suspects(lease: Lease) -> Fut<'a, ()>;
    settle(settled: Vec<Settled>) -> Fut<'a, Vec<u16>>;
    dead_letters(after: u64, limit: usize) -> Fut<'a, Vec<DeadLetter>>;
    requeue(ids: &'a [MessageId]) -> Fut<'a, usize>;
    discard(ids: &'a [MessageId]) -> Fut<'a, usize>;
    backlog() -> Fut<'a, Backlog>;
    purge_receipts(age: Duration, limit: usize) -> Fut<'a, usize>;
    purge_delivered(age: Duration, limit: usize) -> Fut<'a, usize>;
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
