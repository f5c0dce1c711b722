//! What goes into the next draft of a saga's log.

use buttress::{Format, StoreError};

use super::Run;
use crate::saga::error::SagaError;
use crate::saga::model::entry::{Entry, EntryKind};
use crate::saga::model::state::{Command, Reason, Situation, Step};
use crate::saga::run::attempt::{Attempt, DEADLINE, caught};
use crate::saga::run::call::Direction;
use crate::saga::run::draft::{Draft, Launch};
use crate::saga::run::step_runs::Ended;
use crate::saga::store::Store;
use crate::text;

/// Why a saga unwinds that was cancelled.
const CANCELLED: &str = "cancelled";

/// What the log says of a step that a cancel held back.
pub(super) const NOT_SENT: &str = "cancelled before it left";

impl<I, F, St> Run<I, F, St>
where
    I: Send + Sync + 'static,
    F: Format,
    St: Store<F::Encoded>,
{
    /// Writes down how what ran has ended.
    pub(super) fn take_in(&mut self, draft: &mut Draft<F::Encoded>) {
        for (step, direction, ended) in self.step_runs.take_ended() {
            if draft.is_full() {
                self.step_runs.put_back(step, direction, ended);
                continue;
            }
            let output = match ended {
                Ended::Attempt(Attempt::Done(output)) => output,
                Ended::Attempt(Attempt::Failed(why)) => {
                    let kind = match direction {
                        Direction::Action => EntryKind::ActionFailed,
                        Direction::Undo => EntryKind::UndoFailed,
                    };
                    draft.push(kind, step, None, Some(why));
                    continue;
                }
                Ended::Attempt(Attempt::InDoubt(why)) => {
                    let kind = match direction {
                        Direction::Action => EntryKind::ActionInDoubt,
                        Direction::Undo => EntryKind::UndoFailed,
                    };
                    draft.push(kind, step, None, Some(why));
                    continue;
                }
                // It stays as it is in the log: whoever goes on runs it.
                Ended::Lapsed { .. } | Ended::Attempt(Attempt::Lapsed { .. })
                    if self.core.is_shutting_down() =>
                {
                    continue;
                }
                // It would lapse again. It is begun when the lease is renewed.
                Ended::Lapsed { doubt } | Ended::Attempt(Attempt::Lapsed { doubt })
                    if !self.core.lease.is_live() =>
                {
                    self.step_runs.put_back(step, direction, Ended::Lapsed { doubt });
                    continue;
                }
                Ended::Lapsed { doubt } | Ended::Attempt(Attempt::Lapsed { doubt }) => {
                    draft.begin(Launch { step, direction, doubt }, None);
                    continue;
                }
            };
            match direction {
                Direction::Undo => draft.push(EntryKind::UndoDone, step, None, None),
                Direction::Action => {
                    let encoded = caught(|| self.core.definition.inner.encode(step, &output));
                    match encoded.and_then(|encoded| encoded.map_err(|error| error.to_string())) {
                        Ok(payload) => {
                            draft.push(EntryKind::ActionDone, step, Some(payload), None);
                            draft.outputs.push((step, output));
                        }
                        Err(why) => {
                            let note = format!("its output cannot be encoded: {why}");
                            draft.push(EntryKind::ActionInDoubt, step, None, Some(note));
                        }
                    }
                }
            }
        }
    }

    /// Adds what the state machine wants until it wants nothing more.
    pub(super) fn decide(&self, draft: &mut Draft<F::Encoded>) {
        let plan = &self.core.definition.inner.plan;
        let situation = Situation {
            cancelled: self.control.is_cancelled(),
            past_deadline: self
                .step_runs
                .deadline
                .is_some_and(|at| self.core.config.clock.now() >= at),
        };
        loop {
            let commands = draft.state.decide(plan, situation);
            // What is started changes nothing for what else can be done at once.
            let again = !commands
                .iter()
                .all(|command| matches!(command, Command::Act(_) | Command::Undo(_)));
            if commands.is_empty() {
                return;
            }
            for command in commands {
                if draft.is_full() {
                    return;
                }
                self.obey(draft, command);
            }
            if !again {
                return;
            }
        }
    }

    fn obey(&self, draft: &mut Draft<F::Encoded>, command: Command) {
        let why = |kind, step: u16, text: String, draft: &mut Draft<F::Encoded>| {
            let text = text::cut(text);
            draft.reason = Some(text.as_str().into());
            draft.push(kind, step, None, Some(text));
        };
        match command {
            Command::Act(step) => {
                // The first entry of all names the steps the saga was started with.
                let shape = (self.creating.is_some() && draft.entries.is_empty())
                    .then(|| self.core.definition.inner.shape.clone());
                let launch = Launch { step, direction: Direction::Action, doubt: false };
                draft.begin(launch, shape);
            }
            Command::Undo(step) => {
                draft.begin(Launch { step, direction: Direction::Undo, doubt: false }, None);
            }
            Command::Unwind(reason) => {
                let text = match reason {
                    Reason::Step(step) => self.about(draft, step),
                    Reason::Cancelled => CANCELLED.to_owned(),
                    Reason::Deadline => DEADLINE.to_owned(),
                };
                why(EntryKind::Unwinding, 0, text, draft);
            }
            Command::Stick(step) => {
                let text = self.about(draft, step);
                why(EntryKind::Stuck, step, text, draft);
            }
            Command::Complete => draft.push(EntryKind::Completed, 0, None, None),
            Command::Compensate => draft.push(EntryKind::Compensated, 0, None, None),
        }
    }

    /// What is wrong with a step, from what is about to be written of it, or from what the log says of it.
    fn about(&self, draft: &Draft<F::Encoded>, step: u16) -> String {
        let own = |entry: &&Entry<F::Encoded>| entry.step == step && entry.note.is_some();
        let note = draft.entries.iter().rev().find(own).and_then(|entry| entry.note.as_deref());
        let name = self.core.definition.inner.step_name(step);
        match note.or_else(|| self.notes.get(&step).map(|note| &**note)) {
            // The step did not fail by itself.
            Some(NOT_SENT) => CANCELLED.to_owned(),
            Some(DEADLINE) => DEADLINE.to_owned(),
            Some(note) => format!("{name}: {note}"),
            None => format!("{name}: failed before"),
        }
    }

    /// A store refuses even texts that were cut: the draft without them. `None` if it has none.
    fn without_notes(&self, mut draft: Draft<F::Encoded>) -> Option<Draft<F::Encoded>> {
        let first = self.creating.is_some();
        let optional = |(at, entry): (usize, &Entry<F::Encoded>)| {
            // The first entry of all carries the shape of the definition.
            entry.note.is_some() && !(first && at == 0)
        };
        if !draft.entries.iter().enumerate().any(optional) {
            return None;
        }
        for (at, entry) in draft.entries.iter_mut().enumerate() {
            entry.note = entry.note.take().filter(|_| first && at == 0);
        }
        Some(draft)
    }

    /// The store can never hold this draft. Outputs that are too large together may fit one by one; one that
    /// is too large alone is an action in doubt: it was done, but nobody will know what it made.
    pub(super) fn without_outputs(
        &mut self,
        draft: Draft<F::Encoded>,
        error: &StoreError,
    ) -> Result<Draft<F::Encoded>, SagaError> {
        let mut draft = draft;
        let mut outputs = std::mem::take(&mut draft.outputs).into_iter();
        let Some((first, output)) = outputs.next() else {
            let refused = || SagaError::Store { saga: self.id, error: error.clone() };
            return self.without_notes(draft).ok_or_else(refused);
        };
        let mut alone = true;
        for (step, output) in outputs {
            alone = false;
            let done = Ended::Attempt(Attempt::Done(output));
            self.step_runs.put_back(step, Direction::Action, done);
        }
        // What had lapsed before is begun again; what is begun for the first time is decided anew.
        for Launch { step, direction, doubt } in draft.launch {
            if self.has_begun(step) {
                self.step_runs.put_back(step, direction, Ended::Lapsed { doubt });
            }
        }
        let mut again = Draft::new(self.durable.clone());
        for entry in draft.entries {
            match entry.kind {
                EntryKind::ActionDone if entry.step != first => {}
                EntryKind::ActionDone if alone => {
                    let note = format!("its output cannot be stored: {error}");
                    again.push(EntryKind::ActionInDoubt, entry.step, None, Some(note));
                }
                EntryKind::ActionDone => again.push(entry.kind, entry.step, entry.payload, None),
                EntryKind::ActionFailed
                | EntryKind::ActionInDoubt
                | EntryKind::UndoDone
                | EntryKind::UndoFailed => again.push(entry.kind, entry.step, None, entry.note),
                _ => {}
            }
        }
        if !alone {
            again.outputs.push((first, output));
        }
        Ok(again)
    }

    fn has_begun(&self, step: u16) -> bool {
        let step = self.durable.steps.get(usize::from(step));
        matches!(step, Some(Step::Acting | Step::Undoing { .. }))
    }
}
