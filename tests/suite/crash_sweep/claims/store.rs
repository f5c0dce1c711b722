//! A store of claims and results with troubles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use buttress::idempotency::{
    ClaimId, Claimed, CompleteIn, Fingerprint, Key, MemoryStore, MemoryTransaction, Store,
};
use buttress::{Clock, StoreError};
use buttress_sim::crash::{Ledger, Process};

/// A result that the store has kept.
#[derive(Clone, Copy)]
struct Kept {
    value: u32,
    /// Until when it is the result of its key.
    until: Instant,
}

/// The results that the store has kept, and the results of which a worker knows what became of them.
#[derive(Clone, Default)]
pub(super) struct Stored {
    /// The latest result of each key.
    results: Arc<Mutex<BTreeMap<String, Kept>>>,
    /// When each result that was ever kept has expired.
    ends: Arc<Mutex<BTreeMap<u32, Instant>>>,
    decided: Arc<Mutex<BTreeSet<u32>>>,
    /// For how long messages are under way and processes stand still in this run.
    delays: Duration,
}

/// The store of one worker. It reports the owner of a key and each result to the ledger when the
/// effect happens.
#[derive(Clone)]
pub(super) struct Troubled {
    pub(super) store: MemoryStore<u32>,
    pub(super) process: Process,
    pub(super) ledger: Ledger,
    pub(super) stored: Stored,
    /// The clock of the store.
    pub(super) clock: Clock,
}

impl Stored {
    pub(super) fn new(delays: Duration) -> Self {
        Self { delays, ..Self::default() }
    }

    /// The store has this result of `key` from `now` on, for `lifetime`.
    pub(super) fn keep(
        &self,
        ledger: &Ledger,
        key: &Key,
        value: u32,
        (now, lifetime): (Instant, Duration),
    ) {
        let mut results = self.results.lock().unwrap();
        let before = results.get(&key.to_string()).copied();
        match before {
            // Completing again changes nothing, the lifetime neither.
            Some(before) if before.value == value => return,
            Some(before) if now < before.until => {
                ledger.violated(format!("{key} has the result {value} after {}", before.value));
            }
            _ => {}
        }
        let until = now + lifetime;
        results.insert(key.to_string(), Kept { value, until });
        self.ends.lock().unwrap().insert(value, until);
    }

    /// Records the answer that the worker got for its result.
    pub(super) fn heard(&self, value: u32, answer: &Result<(), StoreError>) {
        if answer.as_ref().map_or_else(StoreError::is_fenced, |()| true) {
            self.decided.lock().unwrap().insert(value);
        }
    }

    /// A caller that `began` to ask is answered. The answer is a result that the store kept then or since, unless
    /// the store has not told the worker what became of its own result: the caller then hears that the work is done.
    /// Callers of one process share an answer that is under way, so it may be older by the delays.
    pub(super) fn answered(&self, ledger: &Ledger, key: &Key, answer: u32, began: Instant) {
        let stored = self.results.lock().unwrap().get(&key.to_string()).map(|kept| kept.value);
        let decided = self.decided.lock().unwrap().contains(&answer);
        match self.ends.lock().unwrap().get(&answer) {
            Some(end) if *end + self.delays <= began => {
                ledger.violated(format!("a caller of {key} got {answer}, which had expired"));
            }
            None if decided => {
                ledger
                    .violated(format!("a caller of {key} got {answer}, and stored is {stored:?}"));
            }
            _ => {}
        }
    }
}

impl Store<u32> for Troubled {
    async fn claim(
        &self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
    ) -> Result<Claimed<u32>, StoreError> {
        let (own, key) = (self.clone(), key.clone());
        let asked = async move {
            let claimed = own.store.claim(&key, claim, fingerprint, lease).await?;
            if claimed == Claimed::Owned {
                own.ledger.owned(&key, own.process.number());
            }
            Ok(claimed)
        };
        self.process.operation("claim", asked).await
    }

    async fn renew_claim(
        &self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let (store, key) = (self.store.clone(), key.clone());
        let asked = async move { store.renew_claim(&key, claim, lease).await };
        self.process.operation("renew", asked).await
    }

    async fn complete(
        &self,
        key: &Key,
        claim: ClaimId,
        value: u32,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let (own, key) = (self.clone(), key.clone());
        let asked = async move {
            own.store.complete(&key, claim, value, lifetime).await?;
            own.stored.keep(&own.ledger, &key, value, (own.clock.now(), lifetime));
            Ok(())
        };
        let answer = self.process.operation("complete", asked).await;
        self.stored.heard(value, &answer);
        answer
    }

    async fn complete_without_result(
        &self,
        key: &Key,
        claim: ClaimId,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let (store, key) = (self.store.clone(), key.clone());
        let asked = async move { store.complete_without_result(&key, claim, lifetime).await };
        self.process.operation("complete without", asked).await
    }

    async fn release_claim(&self, key: &Key, claim: ClaimId) -> Result<(), StoreError> {
        let (store, key) = (self.store.clone(), key.clone());
        let asked = async move { store.release_claim(&key, claim).await };
        self.process.operation("release", asked).await
    }

    async fn outcome(&self, key: &Key, claim: ClaimId) -> Result<Option<u32>, StoreError> {
        let (store, key) = (self.store.clone(), key.clone());
        let asked = async move { store.outcome(&key, claim).await };
        self.process.operation("outcome", asked).await
    }

    async fn sweep_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let store = self.store.clone();
        let asked = async move { store.sweep_expired(limit).await };
        self.process.operation("sweep", asked).await
    }
}

/// The statement runs immediately. Troubles affect its request and its answer.
impl CompleteIn<MemoryTransaction<u32>, u32> for Troubled {
    async fn complete_in(
        &self,
        tx: &mut MemoryTransaction<u32>,
        key: &Key,
        claim: ClaimId,
        value: &u32,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        self.process.operation("ask to complete", async { Ok(()) }).await?;
        self.store.complete_in(tx, key, claim, value, lifetime).await?;
        self.process.operation("get the answer", async { Ok(()) }).await
    }
}
