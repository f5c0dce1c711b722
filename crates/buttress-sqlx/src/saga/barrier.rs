//! The barrier of a participant: the passage that the row of a (saga, step) allows.
//!
//! A row counts the actions and undos that came, up to a million, the current one included. A count
//! of one means that this call made the change.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::saga::{Passage, SagaId};

/// The action is done.
const DONE: i64 = 1;
/// The action was done, and is undone.
const UNDONE: i64 = 2;
/// The undo came before the action.
const TOMBSTONE: i64 = 3;

/// Returns the passage of an action, from the state and the count.
pub(crate) fn action(saga: SagaId, step: &str, row: (i64, i64)) -> Answer<Passage> {
    match row {
        (DONE, 1) => Ok(Passage::Proceed),
        (DONE, _) => Ok(Passage::Repeated),
        (UNDONE | TOMBSTONE, _) => Ok(Passage::Overtaken),
        (state, _) => Err(unknown(saga, step, state)),
    }
}

/// Returns the passage of an undo, from the state and the count.
pub(crate) fn undo(saga: SagaId, step: &str, row: (i64, i64)) -> Answer<Passage> {
    match row {
        (UNDONE, 1) => Ok(Passage::Proceed),
        (UNDONE, _) => Ok(Passage::Repeated),
        (TOMBSTONE, _) => Ok(Passage::Overtaken),
        (state, _) => Err(unknown(saga, step, state)),
    }
}

fn unknown(saga: SagaId, step: &str, state: i64) -> StoreError {
    StoreError::corrupt(format!("barrier, saga {saga}, step {step}: unknown state {state}"))
}
