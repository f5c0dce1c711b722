//! [`Draft`]: what is about to be written down.

use std::sync::Arc;

use crate::saga::model::entry::Entry;
use crate::saga::model::state::State;
use crate::saga::run::attempt::Output;
use crate::saga::run::call::Direction;
use crate::text;

/// The most entries of one draft. What does not fit goes into the next one: with texts as long as they may be,
/// these are 8 MB.
pub(in crate::saga) const MOST_ENTRIES: usize = 1000;

/// A step that may leave once its start is written down.
#[derive(Clone, Copy, Debug)]
pub(in crate::saga) struct Launch {
    pub(in crate::saga) step: u16,
    pub(in crate::saga) direction: Direction,
    /// Whether an execution of it before this one may have had an effect.
    pub(in crate::saga) doubt: bool,
}

/// What is about to be written, and the state after it.
pub(in crate::saga) struct Draft<P> {
    pub(in crate::saga) state: State,
    pub(in crate::saga) entries: Vec<Entry<P>>,
    /// Outputs of actions that are done by it.
    pub(in crate::saga) outputs: Vec<(u16, Output)>,
    /// What may leave once it is written.
    pub(in crate::saga) launch: Vec<Launch>,
    pub(in crate::saga) reason: Option<Arc<str>>,
}

impl<P> Draft<P> {
    pub(in crate::saga) fn new(state: State) -> Self {
        Self { state, entries: Vec::new(), outputs: Vec::new(), launch: Vec::new(), reason: None }
    }

    /// Whether nothing more may go into this draft.
    pub(in crate::saga) fn is_full(&self) -> bool {
        self.entries.len() >= MOST_ENTRIES
    }

    /// Writes that a step begins, and lets it leave then.
    pub(in crate::saga) fn begin(&mut self, launch: Launch) {
        let step = launch.step;
        self.launch.push(launch);
        self.push(match launch.direction {
            Direction::Action => Entry::ActionStarted { step },
            Direction::Undo => Entry::UndoStarted { step },
        });
    }

    /// Adds an entry. Cuts its text to the length that every store can hold.
    pub(in crate::saga) fn push(&mut self, mut entry: Entry<P>) {
        if let Some(note) = entry.note_mut() {
            *note = note.take().map(text::cut);
        }
        let (kind, step) = (entry.kind(), entry.step());
        match self.state.apply(kind, step) {
            Ok(()) => self.entries.push(entry),
            // Late results change nothing: no caller waits for them any more.
            Err(why) => tracing::debug!(target: "buttress", ?kind, step, why, "late result"),
        }
    }
}
