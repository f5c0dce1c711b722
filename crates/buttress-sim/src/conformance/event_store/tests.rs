//! The store in memory passes the suite.

use std::time::Duration;

use buttress::VirtualClock;
use buttress_durable::event_store::{MemoryStore, MemoryTransaction};

use crate::conformance::{Harness, Transactions};

struct InMemory(VirtualClock);

impl Harness<MemoryStore> for InMemory {
    async fn fresh(&self) -> MemoryStore {
        MemoryStore::new(self.0.clock())
    }

    async fn reopen(&self, store: &MemoryStore) -> MemoryStore {
        store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
}

impl Transactions<MemoryStore, MemoryTransaction> for InMemory {
    async fn begin(&self, store: &MemoryStore) -> MemoryTransaction {
        store.begin()
    }

    async fn commit(&self, tx: MemoryTransaction) {
        tx.commit();
    }

    async fn roll_back(&self, tx: MemoryTransaction) {
        drop(tx);
    }
}

#[tokio::test]
async fn the_store_in_memory_conforms() {
    let harness = InMemory(VirtualClock::new());
    super::all(&harness).await;
    super::overlapping(&harness).await;
}
