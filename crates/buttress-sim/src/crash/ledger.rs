use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The facts of one run of several processes, and the invariants on them. Cheap to clone; clones
/// are the same ledger.
///
/// A *key* identifies the owned object: a saga, the key of a message, an idempotency key. Stores
/// report an owner when a claim or a take-over takes effect. Services report the calls and effects
/// that reach them.
#[derive(Clone, Default)]
pub struct Ledger {
    facts: Arc<Mutex<Facts>>,
}

#[derive(Default)]
struct Facts {
    owners: BTreeMap<String, u32>,
    effects: BTreeMap<(String, String), i64>,
    wanted: BTreeMap<(String, String), i64>,
    orders: BTreeMap<String, u64>,
    broken: Vec<String>,
}

impl Ledger {
    /// Creates a ledger without facts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that `process` owns `key` from now on.
    pub fn owned(&self, key: impl fmt::Display, process: u32) {
        self.lock().owners.insert(key.to_string(), process);
    }

    /// Records that no process owns `key` from now on.
    pub fn freed(&self, key: impl fmt::Display) {
        self.lock().owners.remove(&key.to_string());
    }

    /// Records a call of `process` for `key` that leaves the process.
    pub fn called(&self, key: impl fmt::Display, process: u32, what: impl fmt::Display) {
        let key = key.to_string();
        let mut facts = self.lock();
        if let Some(owner) = facts.owners.get(&key).copied().filter(|owner| *owner != process) {
            facts.broken.push(format!(
                "{what} of {key} left process {process} although process {owner} owns it"
            ));
        }
    }

    /// Adds `times` to the number of effects `what` of `key`.
    pub fn effect(&self, key: impl fmt::Display, what: impl fmt::Display, times: i64) {
        *self.lock().effects.entry((key.to_string(), what.to_string())).or_default() += times;
    }

    /// Records the number of effects `what` of `key` according to the log.
    pub fn recorded(&self, key: impl fmt::Display, what: impl fmt::Display, times: i64) {
        self.lock().wanted.insert((key.to_string(), what.to_string()), times);
    }

    /// Records the first handling of the message `number` of `key`.
    pub fn handled(&self, key: impl fmt::Display, number: u64) {
        let key = key.to_string();
        let mut facts = self.lock();
        let last = facts.orders.insert(key.clone(), number);
        if let Some(last) = last.filter(|last| *last >= number) {
            facts.broken.push(format!("message {number} of {key} came after message {last}"));
        }
    }

    /// Records a broken invariant of the scenario itself, with this description.
    pub fn violated(&self, what: impl fmt::Display) {
        self.lock().broken.push(what.to_string());
    }

    /// Records that at the end of the run `key` could continue but does not, for this reason.
    pub fn stands_still(&self, key: impl fmt::Display, why: impl fmt::Display) {
        self.lock().broken.push(format!("{key} could continue but does not: {why}"));
    }

    /// Records that `key` is still held at the end of the run. `why` is the reason.
    pub fn still_held(&self, key: impl fmt::Display, why: impl fmt::Display) {
        self.lock().broken.push(format!("{key} is held forever: {why}"));
    }

    /// Checks the invariants. No call leaves a process that no longer owns its key. Effects equal
    /// the log. The messages of a key are handled in order. No key that could continue stands
    /// still. No key is held forever.
    ///
    /// # Errors
    /// Returns all violations, one per line.
    pub fn check(&self) -> Result<(), String> {
        let facts = self.lock();
        let mut broken = facts.broken.clone();
        for ((key, what), wanted) in &facts.wanted {
            let stands = facts.effects.get(&(key.clone(), what.clone())).copied().unwrap_or(0);
            if stands != *wanted {
                broken.push(format!(
                    "{key} has {stands} effects {what}, and {wanted} according to the log"
                ));
            }
        }
        if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("broken", &self.lock().broken).finish_non_exhaustive()
    }
}
