//! The conformance suites of the stores in memory.

use std::time::Duration;

use buttress::VirtualClock;
use buttress_durable::{outbox, saga};
use buttress_sim::conformance::{self, Harness, Transactions};

/// Logs of sagas under a manual clock.
struct Sagas(VirtualClock);

/// Outboxes and inboxes under a manual clock.
struct Outboxes(VirtualClock);

impl Harness<saga::MemoryStore<Vec<u8>>> for Sagas {
    async fn fresh(&self) -> saga::MemoryStore<Vec<u8>> {
        saga::MemoryStore::of_bytes(self.0.clock())
    }

    async fn reopen(&self, store: &saga::MemoryStore<Vec<u8>>) -> saga::MemoryStore<Vec<u8>> {
        store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
}

impl Harness<outbox::MemoryStore> for Outboxes {
    async fn fresh(&self) -> outbox::MemoryStore {
        outbox::MemoryStore::new(self.0.clock())
    }

    async fn reopen(&self, store: &outbox::MemoryStore) -> outbox::MemoryStore {
        store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
}

impl Transactions<outbox::MemoryStore, outbox::MemoryTransaction> for Outboxes {
    async fn begin(&self, store: &outbox::MemoryStore) -> outbox::MemoryTransaction {
        store.begin()
    }

    async fn commit(&self, tx: outbox::MemoryTransaction) {
        tx.commit();
    }

    async fn roll_back(&self, tx: outbox::MemoryTransaction) {
        drop(tx);
    }
}

#[tokio::test]
async fn saga_store() {
    conformance::saga::all(&Sagas(VirtualClock::new())).await;
}

#[tokio::test]
async fn outbox_store() {
    conformance::outbox::all(&Outboxes(VirtualClock::new())).await;
}

#[tokio::test]
async fn inbox() {
    conformance::inbox::all(&Outboxes(VirtualClock::new())).await;
}

#[tokio::test]
async fn barrier() {
    let outboxes = Outboxes(VirtualClock::new());
    conformance::barrier::all(&outboxes).await;
    conformance::barrier::retention(&outboxes).await;
}

/// Stores behind boxes.
struct Boxes(VirtualClock);

impl Harness<saga::BoxStore<Vec<u8>>> for Boxes {
    async fn fresh(&self) -> saga::BoxStore<Vec<u8>> {
        saga::BoxStore::new(saga::MemoryStore::of_bytes(self.0.clock()))
    }

    async fn reopen(&self, store: &saga::BoxStore<Vec<u8>>) -> saga::BoxStore<Vec<u8>> {
        store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
}

#[tokio::test]
async fn boxed_saga_store() {
    conformance::saga::all(&Boxes(VirtualClock::new())).await;
}
