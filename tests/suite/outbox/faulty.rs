//! A store whose answers are late or fail, or that refuses one message.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::{Clock, StoreError, StoreErrorKind};
use buttress_durable::outbox::{
    Backlog, BoxStore, DeadLetter, Fetched, Lease, MemoryStore, MemoryTransaction, MessageId,
    NewMessage, Owned, RelayId, Settled, Store, Write,
};

#[derive(Clone, Debug)]
pub(super) struct Faulty {
    /// Boxed, so that relays and the conformance suite run over a boxed store.
    inner: BoxStore,
    /// The same store, for writes.
    memory: MemoryStore,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug, Default)]
struct Faults {
    /// The delay of the answer; the effect happens first.
    late: HashMap<&'static str, Duration>,
    fails: HashMap<&'static str, StoreErrorKind>,
    /// The error of every operation.
    away: Option<StoreErrorKind>,
    /// Messages whose ends the store refuses.
    refused: HashSet<MessageId>,
    asked: HashMap<&'static str, usize>,
}

impl Faulty {
    pub(super) fn over(store: &MemoryStore) -> Self {
        let inner = BoxStore::new(store.clone());
        Self { inner, memory: store.clone(), faults: Arc::default() }
    }

    /// Delays the answers to `operation` by `by`.
    pub(super) fn late(&self, operation: &'static str, by: Duration) {
        self.faults.lock().unwrap().late.insert(operation, by);
    }

    pub(super) fn fails(&self, operation: &'static str, kind: Option<StoreErrorKind>) {
        let fails = &mut self.faults.lock().unwrap().fails;
        match kind {
            Some(kind) => fails.insert(operation, kind),
            None => fails.remove(operation),
        };
    }

    /// Makes every operation fail.
    pub(super) fn away(&self, kind: Option<StoreErrorKind>) {
        self.faults.lock().unwrap().away = kind;
    }

    pub(super) fn refuse(&self, id: MessageId) {
        self.faults.lock().unwrap().refused.insert(id);
    }

    pub(super) fn mend(&self) {
        self.faults.lock().unwrap().refused.clear();
    }

    /// Returns the number of operations since the last call.
    pub(super) fn asked(&self) -> usize {
        std::mem::take(&mut self.faults.lock().unwrap().asked).values().sum()
    }

    fn check(&self, operation: &'static str, ids: &[MessageId]) -> Result<(), StoreError> {
        let mut faults = self.faults.lock().unwrap();
        let asked = faults.asked.entry(operation).or_default();
        *asked += 1;
        // Under a paused clock it would never end.
        assert!(*asked < 100_000, "asked to {operation} without a pause");
        if let Some(kind) = faults.away.or_else(|| faults.fails.get(operation).copied()) {
            return Err(StoreError::new(kind, operation));
        }
        match ids.iter().find(|id| faults.refused.contains(id)) {
            Some(id) => Err(StoreError::invalid(format!("message {id}: a trigger refuses it"))),
            None => Ok(()),
        }
    }

    async fn answer<T>(&self, operation: &'static str, answer: T) -> T {
        let late = self.faults.lock().unwrap().late.get(operation).copied();
        if let Some(late) = late {
            Clock::default().sleep(late).await;
        }
        answer
    }
}

impl Store for Faulty {
    async fn lease_partitions(
        &self,
        relay: RelayId,
        lease: Duration,
        busy: &[u16],
    ) -> Result<Owned, StoreError> {
        self.check("lease", &[])?;
        self.answer("lease", self.inner.lease_partitions(relay, lease, busy).await).await
    }

    async fn release_partitions(&self, relay: RelayId) -> Result<(), StoreError> {
        self.check("release", &[])?;
        self.inner.release_partitions(relay).await
    }

    async fn fetch(
        &self,
        relay: RelayId,
        leases: &[Lease],
        limit: usize,
    ) -> Result<Fetched, StoreError> {
        self.check("fetch", &[])?;
        self.answer("fetch", self.inner.fetch(relay, leases, limit).await).await
    }

    async fn record_start(
        &self,
        lease: Lease,
        id: MessageId,
        claim: u64,
    ) -> Result<u32, StoreError> {
        self.check("start", &[id])?;
        self.answer("start", self.inner.record_start(lease, id, claim).await).await
    }

    async fn clear_suspects(&self, lease: Lease) -> Result<(), StoreError> {
        self.check("clear", &[])?;
        self.answer("clear", self.inner.clear_suspects(lease).await).await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Result<Vec<u16>, StoreError> {
        let ids: Vec<MessageId> = settled.iter().map(|settled| settled.id).collect();
        self.check("settle", &ids)?;
        self.answer("settle", self.inner.settle(settled).await).await
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
        self.check("backlog", &[])?;
        self.inner.backlog().await
    }

    async fn purge_delivered(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        self.check("purge", &[])?;
        self.answer("purge", self.inner.purge_delivered(age, limit).await).await
    }
}

impl Write<MemoryTransaction> for Faulty {
    async fn write(
        &self,
        tx: &mut MemoryTransaction,
        message: &NewMessage,
    ) -> Result<(), StoreError> {
        self.memory.write(tx, message).await
    }

    async fn lock_key(&self, tx: &mut MemoryTransaction, key: &str) -> Result<(), StoreError> {
        self.memory.lock_key(tx, key).await
    }
}

impl Faulty {
    pub(super) fn begin(&self) -> MemoryTransaction {
        self.memory.begin()
    }
}
