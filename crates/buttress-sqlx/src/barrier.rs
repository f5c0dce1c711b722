//! The participant barrier: what the row of a (saga, step) says to whoever came.
//!
//! A row counts the actions and undos that came, this one included, up to a million; so who finds a one made
//! the change.

use buttress::StoreError;
use buttress_durable::outbox::Passage;
use buttress_durable::saga::SagaId;

/// The action is done.
const DONE: i64 = 1;
/// It was done, and is undone.
const UNDONE: i64 = 2;
/// It was undone before it came.
const TOMBSTONE: i64 = 3;

/// What an action is told, by the state and how many came.
pub(crate) fn action(saga: SagaId, step: &str, row: (i64, i64)) -> Result<Passage, StoreError> {
    match row {
        (DONE, 1) => Ok(Passage::Proceed),
        (DONE, _) => Ok(Passage::Repeated),
        (UNDONE | TOMBSTONE, _) => Ok(Passage::Overtaken),
        (state, _) => Err(unknown(saga, step, state)),
    }
}

/// What an undo is told, by the state and how many came.
pub(crate) fn undo(saga: SagaId, step: &str, row: (i64, i64)) -> Result<Passage, StoreError> {
    match row {
        (UNDONE, 1) => Ok(Passage::Proceed),
        (UNDONE, _) => Ok(Passage::Repeated),
        (TOMBSTONE, _) => Ok(Passage::Overtaken),
        (state, _) => Err(unknown(saga, step, state)),
    }
}

fn unknown(saga: SagaId, step: &str, state: i64) -> StoreError {
    StoreError::corrupt(format!("inbox, saga {saga}, step {step}: unknown state {state}"))
}
