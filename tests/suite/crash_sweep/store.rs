//! Stores of a process that can crash before and after each of their operations.

use std::any::Any;

use buttress::StoreError;
use buttress_sim::crash::CrashPoints;
use buttress_sim::hooked::{Hook, Hooked, Operation, Run};

/// Operations without a crash point: they only read, or belong to an operator.
const QUIET: [&str; 9] = [
    "load",
    "list",
    "has_unowned",
    "dead_letters",
    "requeue",
    "discard",
    "backlog",
    "purge_receipts",
    "purge_delivered",
];

/// A store that crashes with its process.
pub(super) type Mortal<S> = Hooked<S, Crashing>;

/// Crash points before and after each operation.
#[derive(Clone)]
pub(super) struct Crashing(pub(super) CrashPoints);

impl<O: Operation> Hook<O> for Crashing {
    async fn around<T: Any + Send>(&self, operation: O, run: Run<T>) -> Result<T, StoreError> {
        let name = operation.name();
        if QUIET.contains(&name) { run.await } else { self.0.around(name, run).await }
    }
}
