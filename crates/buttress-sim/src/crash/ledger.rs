use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was observed in one run of several processes, and the invariants it must keep. Cheap to clone; clones are
/// the same ledger.
///
/// A *key* is what is owned: a saga, the key of a message, an idempotency key. Stores report owners in the moment
/// when a claim or a take-over has its effect; services report the calls and effects that reach them.
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
    /// A ledger without facts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `process` owns `key`.
    pub fn owned(&self, key: impl fmt::Display, process: u32) {
        self.lock().owners.insert(key.to_string(), process);
    }

    /// From now on no process owns `key`.
    pub fn freed(&self, key: impl fmt::Display) {
        self.lock().owners.remove(&key.to_string());
    }

    /// A call of `process` for `key` leaves the process.
    pub fn called(&self, key: impl fmt::Display, process: u32, what: impl fmt::Display) {
        let key = key.to_string();
        let mut facts = self.lock();
        if let Some(owner) = facts.owners.get(&key).copied().filter(|owner| *owner != process) {
            facts.broken.push(format!(
                "{what} of {key} left process {process} although process {owner} owns it"
            ));
        }
    }

    /// An effect `what` of `key` now stands so many times more.
    pub fn effect(&self, key: impl fmt::Display, what: impl fmt::Display, times: i64) {
        *self.lock().effects.entry((key.to_string(), what.to_string())).or_default() += times;
    }

    /// According to the log, the effect `what` of `key` stands so many times.
    pub fn recorded(&self, key: impl fmt::Display, what: impl fmt::Display, times: i64) {
        self.lock().wanted.insert((key.to_string(), what.to_string()), times);
    }

    /// The message with this number of `key` was handled for the first time.
    pub fn handled(&self, key: impl fmt::Display, number: u64) {
        let key = key.to_string();
        let mut facts = self.lock();
        let last = facts.orders.insert(key.clone(), number);
        if let Some(last) = last.filter(|last| *last >= number) {
            facts.broken.push(format!("message {number} of {key} came after message {last}"));
        }
    }

    /// An invariant of the scenario itself is broken, in these words.
    pub fn violated(&self, what: impl fmt::Display) {
        self.lock().broken.push(what.to_string());
    }

    /// At the end of the run `key` could go on and does not, for this reason.
    pub fn stands_still(&self, key: impl fmt::Display, why: impl fmt::Display) {
        self.lock().broken.push(format!("{key} could go on and stands still: {why}"));
    }

    /// At the end of the run `key` is held, for this reason.
    pub fn still_held(&self, key: impl fmt::Display, why: impl fmt::Display) {
        self.lock().broken.push(format!("{key} is held forever: {why}"));
    }

    /// The invariants. No call leaves a process that does not own its key, from the take-over on. Effects equal
    /// the log. The messages of a key are handled in order. Nothing that could go on stands still. No key is
    /// held forever.
    ///
    /// # Errors
    /// Every violation, one a line.
    pub fn check(&self) -> Result<(), String> {
        let facts = self.lock();
        let mut broken = facts.broken.clone();
        for ((key, what), wanted) in &facts.wanted {
            let stands = facts.effects.get(&(key.clone(), what.clone())).copied().unwrap_or(0);
            if stands != *wanted {
                broken.push(format!(
                    "the effect of {what} of {key} stands {stands} times, and {wanted} by the log"
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
