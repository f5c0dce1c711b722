//! A boxed store, by the suite that every store must pass.

use std::time::Duration;

use buttress::VirtualClock;
use buttress_durable::outbox::{MemoryStore, MemoryTransaction};
use buttress_sim::conformance::{self, Harness, Transactions};

use super::faulty::Faulty;

/// Boxed stores, behind a store without faults that also writes.
struct Boxes(VirtualClock);

impl Harness<Faulty> for Boxes {
    async fn fresh(&self) -> Faulty {
        Faulty::over(&MemoryStore::new(self.0.clock()))
    }

    async fn reopen(&self, store: &Faulty) -> Faulty {
        store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
}

impl Transactions<Faulty, MemoryTransaction> for Boxes {
    async fn begin(&self, store: &Faulty) -> MemoryTransaction {
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
async fn boxed_outbox_store() {
    conformance::outbox::all(&Boxes(VirtualClock::new())).await;
}
