//! A store of claims and results with troubles.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use buttress::idempotency::{Claimed, CompleteIn, Completion, Key, MemoryStore, MemoryTransaction};
use buttress::{Answer, Clock, StoreError};
use buttress_sim::crash::{Ledger, Process};
use buttress_sim::hooked::idempotency::Operation;
use buttress_sim::hooked::{Hook, Hooked, Operation as _, Run, answer};

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
    /// For how long messages are in progress and processes stand still in this run.
    delays: Duration,
}

/// The store of one worker.
pub(super) type Troubled = Hooked<MemoryStore<u32>, Troubles>;

/// The troubles of one worker. They report the owner of a key and each result to the ledger when
/// the effect happens.
#[derive(Clone)]
pub(super) struct Troubles {
    pub store: MemoryStore<u32>,
    pub process: Process,
    pub ledger: Ledger,
    pub stored: Stored,
    /// The clock of the store.
    pub clock: Clock,
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
    pub(super) fn heard<T>(&self, value: u32, answer: &Result<T, StoreError>) {
        if answer.as_ref().map_or_else(StoreError::is_fenced, |_| true) {
            self.decided.lock().unwrap().insert(value);
        }
    }

    /// A caller that `began` to ask is answered. The answer is a result that the store kept then or since, unless the
    /// worker does not know from the store whether its own result was kept: the caller then gets the error that the
    /// work is done. Callers of one process share an answer in progress, so it may be older by the delays.
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

impl Troubles {
    pub(super) fn into_store(self) -> Troubled {
        Hooked::new(self.store.clone(), self)
    }
}

impl Hook<Operation<u32>> for Troubles {
    async fn around<T: Any + Send>(
        &self,
        operation: Operation<u32>,
        run: Run<T>,
    ) -> Result<T, StoreError> {
        let (name, own) = (operation.name(), self.clone());
        match operation {
            Operation::Claim { key, .. } => {
                let claim = async move {
                    let claimed = run.await?;
                    if *answer::<Claimed<u32>, _>(&claimed) == Claimed::Owned {
                        own.ledger.owned(&key, own.process.number());
                    }
                    Ok(claimed)
                };
                self.process.operation(name, claim).await
            }
            Operation::Complete { key, value, lifetime, .. } => {
                let complete = async move {
                    let completed = run.await?;
                    own.stored.keep(&own.ledger, &key, value, (own.clock.now(), lifetime));
                    Ok(completed)
                };
                let completed = self.process.operation(name, complete).await;
                self.stored.heard(value, &completed);
                completed
            }
            _ => self.process.operation(name, run).await,
        }
    }
}

/// The statement runs immediately. Troubles affect its request and its answer.
impl CompleteIn<MemoryTransaction<u32>, u32> for Troubles {
    async fn complete_in(
        &self,
        tx: &mut MemoryTransaction<u32>,
        completion: Completion<'_, u32>,
    ) -> Answer<()> {
        self.process.operation("ask to complete", async { Ok(()) }).await?;
        self.store.complete_in(tx, completion).await?;
        self.process.operation("get the answer", async { Ok(()) }).await
    }
}
