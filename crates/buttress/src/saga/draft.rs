//! [`Draft`]: what is about to be written down.

use std::sync::Arc;

use super::attempt::Output;
use super::call::Direction;
use super::state::State;
use super::store::{Entry, EntryKind};

/// What is about to be written, and the state after it.
pub(super) struct Draft<P> {
    pub(super) state: State,
    pub(super) entries: Vec<Entry<P>>,
    /// Outputs of actions that are done by it.
    pub(super) outputs: Vec<(u16, Output)>,
    /// What may leave once it is written.
    pub(super) launch: Vec<(u16, Direction)>,
    pub(super) reason: Option<Arc<str>>,
}

impl<P> Draft<P> {
    pub(super) fn new(state: State) -> Self {
        Self { state, entries: Vec::new(), outputs: Vec::new(), launch: Vec::new(), reason: None }
    }

    pub(super) fn push(
        &mut self,
        kind: EntryKind,
        step: u16,
        payload: Option<P>,
        note: Option<String>,
    ) {
        match self.state.apply(kind, step) {
            Ok(()) => self.entries.push(Entry { kind, step, payload, note }),
            // Only a result nobody waits for any more: late results change nothing.
            Err(why) => tracing::debug!(target: "buttress", ?kind, step, why, "late result"),
        }
    }
}
