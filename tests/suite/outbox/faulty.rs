//! A store whose answers are late or fail, or that refuses one message.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::{Clock, StoreError, StoreErrorKind};
use buttress_durable::Answer;
use buttress_durable::outbox::{BoxStore, MemoryStore, MessageId};
use buttress_sim::hooked::outbox::Operation;
use buttress_sim::hooked::{Hook, Hooked, Operation as _, Run};

/// A store with faults. It is boxed, so that relays run over a boxed store.
pub(super) type Faulty = Hooked<BoxStore, Faults>;

/// The faults of a store, by the name of the operation.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    planned: Arc<Mutex<Planned>>,
}

#[derive(Debug, Default)]
struct Planned {
    /// The delay of the answer; the effect happens first.
    late: HashMap<&'static str, Duration>,
    fails: HashMap<&'static str, StoreErrorKind>,
    /// The error of every operation.
    away: Option<StoreErrorKind>,
    /// Messages whose ends the store refuses.
    refused: HashSet<MessageId>,
    /// Operations that never end, without an effect.
    hang: HashSet<&'static str>,
    asked: HashMap<&'static str, usize>,
}

/// The operations that can have a fault.
const OPERATIONS: [&str; 7] = [
    "lease_partitions",
    "fetch",
    "record_start",
    "clear_suspects",
    "settle",
    "purge_delivered",
    "backlog",
];

/// Returns `operation`. Panics if no operation has this name, because its fault would never happen.
fn known(operation: &'static str) -> &'static str {
    assert!(OPERATIONS.contains(&operation), "{operation} is not an operation");
    operation
}

impl Faults {
    /// Returns a store without faults yet.
    pub(super) fn over(store: &MemoryStore) -> Faulty {
        Hooked::new(BoxStore::new(store.clone()), Self::default())
    }

    /// Sets whether `operation` never ends, and has no effect.
    pub(super) fn hang(&self, operation: &'static str, hang: bool) {
        let hanging = &mut self.planned.lock().unwrap().hang;
        if hang {
            hanging.insert(known(operation))
        } else {
            hanging.remove(operation)
        };
    }

    /// Delays the answers to `operation` by `by`.
    pub(super) fn late(&self, operation: &'static str, by: Duration) {
        self.planned.lock().unwrap().late.insert(known(operation), by);
    }

    pub(super) fn fails(&self, operation: &'static str, kind: Option<StoreErrorKind>) {
        let fails = &mut self.planned.lock().unwrap().fails;
        match kind {
            Some(kind) => fails.insert(known(operation), kind),
            None => fails.remove(operation),
        };
    }

    /// Makes every operation fail.
    pub(super) fn away(&self, kind: Option<StoreErrorKind>) {
        self.planned.lock().unwrap().away = kind;
    }

    pub(super) fn refuse(&self, id: MessageId) {
        self.planned.lock().unwrap().refused.insert(id);
    }

    pub(super) fn mend(&self) {
        self.planned.lock().unwrap().refused.clear();
    }

    /// Returns the number of operations since the last call.
    pub(super) fn asked(&self) -> usize {
        std::mem::take(&mut self.planned.lock().unwrap().asked).values().sum()
    }

    fn check(&self, operation: &'static str, ids: &[MessageId]) -> Result<(), StoreError> {
        let mut faults = self.planned.lock().unwrap();
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
}

impl Hook<Operation> for Faults {
    async fn around<T: Any + Send>(&self, operation: Operation, run: Run<T>) -> Answer<T> {
        let name = operation.name();
        let ids = match operation {
            Operation::RecordStart { id, .. } => vec![id],
            Operation::Settle { settled } => settled.iter().map(|settled| settled.id).collect(),
            _ => Vec::new(),
        };
        self.check(name, &ids)?;
        let (hangs, late) = {
            let planned = self.planned.lock().unwrap();
            (planned.hang.contains(name), planned.late.get(name).copied())
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        let answer = run.await;
        if let Some(late) = late {
            Clock::default().sleep(late).await;
        }
        answer
    }
}
