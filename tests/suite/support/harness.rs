//! The harness of the conformance suites for stores in memory.

use std::time::Duration;

use buttress::{Clock, VirtualClock, idempotency};
use buttress_durable::{event_store, outbox};
use buttress_sim::conformance::{Harness, Transactions};

/// Makes stores under a manual clock.
pub(crate) struct Under<F> {
    time: VirtualClock,
    store: F,
}

impl<F> Under<F> {
    /// Returns a harness whose stores are made by `store`. A store that is opened again is a clone.
    pub(crate) fn new(store: F) -> Self {
        Self { time: VirtualClock::new(), store }
    }
}

impl<S: Clone, F: Fn(Clock) -> S> Harness<S> for Under<F> {
    async fn fresh(&self) -> S {
        (self.store)(self.time.clock())
    }

    async fn reopen(&self, store: &S) -> S {
        store.clone()
    }

    async fn advance(&self, by: Duration) {
        self.time.advance(by);
    }
}

/// A store that begins transactions in memory.
pub(crate) trait Begin: Clone {
    type Tx: End;
    fn begin(&self) -> Self::Tx;
}

/// A transaction in memory. Dropping it rolls it back.
pub(crate) trait End {
    fn commit(self);
}

impl Begin for outbox::MemoryStore {
    type Tx = outbox::MemoryTransaction;

    fn begin(&self) -> Self::Tx {
        self.begin()
    }
}

impl End for outbox::MemoryTransaction {
    fn commit(self) {
        self.commit();
    }
}

impl Begin for event_store::MemoryStore {
    type Tx = event_store::MemoryTransaction;

    fn begin(&self) -> Self::Tx {
        self.begin()
    }
}

impl End for event_store::MemoryTransaction {
    fn commit(self) {
        self.commit();
    }
}

impl Begin for idempotency::MemoryStore<Vec<u8>> {
    type Tx = idempotency::MemoryTransaction<Vec<u8>>;

    fn begin(&self) -> Self::Tx {
        self.begin()
    }
}

impl End for idempotency::MemoryTransaction<Vec<u8>> {
    fn commit(self) {
        self.commit().unwrap();
    }
}

impl<S: Begin, F: Fn(Clock) -> S> Transactions<S, S::Tx> for Under<F> {
    async fn begin(&self, store: &S) -> S::Tx {
        store.begin()
    }

    async fn commit(&self, tx: S::Tx) {
        tx.commit();
    }

    async fn roll_back(&self, tx: S::Tx) {
        drop(tx);
    }
}
