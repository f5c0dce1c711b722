//! [`Draft`]: the entries of the next write to a log.

use std::time::Duration;

use crate::saga::model::entry::Entry;
use crate::saga::model::state::{Command, State};
use crate::saga::run::attempt::Output;
use crate::saga::run::call::Direction;
use crate::text;

/// The most entries of one draft. Further entries go into the next one. With the longest texts,
/// 1000 entries are 8 MB.
pub(in crate::saga) const MOST_ENTRIES: usize = 1000;

/// A step that may start once the store has recorded its start.
#[derive(Clone, Copy, Debug)]
pub(in crate::saga) struct Launch {
    pub step: u16,
    pub direction: Direction,
    /// Whether an earlier execution of the step may have had an effect.
    pub doubt: bool,
}

/// The entries of the next write, and the state after them.
pub(in crate::saga) struct Draft<P> {
    pub state: State,
    pub entries: Vec<Entry<P>>,
    /// The outputs of the actions that these entries complete.
    pub outputs: Vec<(u16, Output)>,
    /// The steps that may start once the entries are stored.
    pub launch: Vec<Launch>,
    /// The time until the saga is due, if it only waits after these entries. No worker runs it until then.
    pub due_in: Option<Duration>,
    /// Whether a wait for a signal ends here without one. Everything else in the draft follows from this end.
    pub ends_without_signal: bool,
    /// Whether the draft leaves commands to the next one.
    pub leaves_commands: bool,
    /// How many signals the draft depends on. The store leaves it out if the saga has more.
    pub seen_signals: Option<u64>,
    /// Whether the run knew that the saga is cancelled when it decided the draft.
    pub knows_cancel: bool,
    /// Room for the commands of the state machine.
    pub commands: Vec<Command>,
}

impl<P> Draft<P> {
    pub(in crate::saga) fn new(state: State) -> Self {
        Self {
            state,
            entries: Vec::new(),
            outputs: Vec::new(),
            launch: Vec::new(),
            due_in: None,
            ends_without_signal: false,
            leaves_commands: false,
            seen_signals: None,
            knows_cancel: false,
            commands: Vec::new(),
        }
    }

    /// Begins the draft that follows `state`, in the room of this one.
    pub(in crate::saga) fn begin_again(&mut self, state: &State) {
        self.state.copy_from(state);
        self.entries.clear();
        self.outputs.clear();
        self.launch.clear();
        (self.due_in, self.seen_signals) = (None, None);
        (self.ends_without_signal, self.leaves_commands, self.knows_cancel) = (false, false, false);
    }

    /// Whether the draft can take no more entries.
    pub(in crate::saga) fn is_full(&self) -> bool {
        self.entries.len() >= MOST_ENTRIES
    }

    /// Adds the start of a step, and the step to the ones that may start after the write.
    pub(in crate::saga) fn begin(&mut self, launch: Launch) {
        let step = launch.step;
        let before = self.entries.len();
        self.push(match launch.direction {
            Direction::Action => Entry::ActionStarted { step },
            Direction::Undo => Entry::UndoStarted { step },
        });
        // An operator may have decided that the step does not run again.
        if self.entries.len() > before {
            self.launch.push(launch);
        }
    }

    /// Adds an entry. Cuts its text to the length that every store can hold.
    pub(in crate::saga) fn push(&mut self, mut entry: Entry<P>) {
        if let Some(note) = entry.note_mut() {
            *note = note.take().map(text::cut);
        }
        let (kind, step) = (entry.kind(), entry.step());
        match self.state.add(&entry) {
            Ok(()) => self.entries.push(entry),
            // Late results change nothing: no caller waits for them any more.
            Err(why) => {
                tracing::debug!(target: "buttress", ?kind, step, why, "a result of a step came too late");
            }
        }
    }
}
