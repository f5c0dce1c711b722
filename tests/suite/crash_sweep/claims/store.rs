//! A store of claims and results with troubles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::StoreError;
use buttress::idempotency::{
    ClaimId, Claimed, CompleteIn, Fingerprint, Key, MemoryStore, MemoryTransaction, Store,
};
use buttress_sim::crash::{Ledger, Process};

/// The result of each key in the store, and the results whose fate a worker knows.
#[derive(Clone, Default)]
pub(super) struct Stored {
    results: Arc<Mutex<BTreeMap<String, u32>>>,
    decided: Arc<Mutex<BTreeSet<u32>>>,
}

/// The store of one worker. It reports the owner of a key and each result to the ledger when the
/// effect happens.
#[derive(Clone)]
pub(super) struct Troubled {
    pub(super) store: MemoryStore<u32>,
    pub(super) process: Process,
    pub(super) ledger: Ledger,
    pub(super) stored: Stored,
}

impl Stored {
    /// Records that the store has this result of `key` from now on.
    pub(super) fn keep(&self, ledger: &Ledger, key: &Key, value: u32) {
        let before = self.results.lock().unwrap().insert(key.to_string(), value);
        if let Some(before) = before.filter(|before| *before != value) {
            ledger.violated(format!("{key} has the result {value} after {before}"));
        }
    }

    /// Records the answer that the worker got for its result.
    pub(super) fn heard(&self, value: u32, answer: &Result<(), StoreError>) {
        if answer.as_ref().map_or_else(StoreError::is_fenced, |()| true) {
            self.decided.lock().unwrap().insert(value);
        }
    }

    /// Records the answer of a caller. It is the result in the store, unless the store has not told
    /// the worker the fate of its own result. The caller then gets `result-not-kept`.
    pub(super) fn answered(&self, ledger: &Ledger, key: &Key, answer: u32) {
        let stored = self.results.lock().unwrap().get(&key.to_string()).copied();
        let decided = self.decided.lock().unwrap().contains(&answer);
        if let Some(stored) = stored.filter(|stored| *stored != answer && decided) {
            let what = format!("a caller of {key} got {answer}, and the stored result is {stored}");
            ledger.violated(what);
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
            own.stored.keep(&own.ledger, &key, value);
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
