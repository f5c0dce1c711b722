//! The conformance suite of the store in memory, also behind a shared pointer.

use std::sync::Arc;
use std::time::Duration;

use buttress::VirtualClock;
use buttress::idempotency::{MemoryStore, MemoryTransaction};
use buttress_sim::conformance::{self, Harness, Transactions};

struct Memory(VirtualClock);

impl Harness<MemoryStore<Vec<u8>>> for Memory {
    async fn fresh(&self) -> MemoryStore<Vec<u8>> {
        MemoryStore::new(self.0.clock())
    }

    async fn reopen(&self, store: &MemoryStore<Vec<u8>>) -> MemoryStore<Vec<u8>> {
        store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
}

impl Transactions<MemoryStore<Vec<u8>>, MemoryTransaction<Vec<u8>>> for Memory {
    async fn begin(&self, store: &MemoryStore<Vec<u8>>) -> MemoryTransaction<Vec<u8>> {
        store.begin()
    }

    async fn commit(&self, tx: MemoryTransaction<Vec<u8>>) {
        tx.commit().unwrap();
    }

    async fn roll_back(&self, tx: MemoryTransaction<Vec<u8>>) {
        drop(tx);
    }
}

/// The store behind a pointer that layers share.
struct Pointed(Memory);

impl Harness<Arc<MemoryStore<Vec<u8>>>> for Pointed {
    async fn fresh(&self) -> Arc<MemoryStore<Vec<u8>>> {
        Arc::new(self.0.fresh().await)
    }

    async fn reopen(&self, store: &Arc<MemoryStore<Vec<u8>>>) -> Arc<MemoryStore<Vec<u8>>> {
        store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.0.advance(by).await;
    }
}

#[tokio::test]
async fn store() {
    conformance::idempotency::all(&Memory(VirtualClock::new())).await;
}

#[tokio::test]
async fn store_in_transactions() {
    conformance::idempotency::transactional(&Memory(VirtualClock::new())).await;
}

#[tokio::test]
async fn shared_store() {
    conformance::idempotency::all(&Pointed(Memory(VirtualClock::new()))).await;
}
