//! What goes into the next draft of a saga's log.

use buttress::{Format, StoreError};

use super::Run;
use crate::saga::attempt::{Attempt, caught};
use crate::saga::call::Direction;
use crate::saga::draft::{Draft, Launch};
use crate::saga::error::SagaError;
use crate::saga::flight::Ended;
use crate::saga::state::{Command, Reason, Situation, Step};
use crate::saga::store::{Entry, EntryKind, Store};

impl<I, F, St> Run<I, F, St>
where
    I: Send + Sync + 'static,
    F: Format,
    St: Store<F::Encoded>,
{
    /// Writes down how what ran has ended.
    pub(super) fn take_in(&mut self, draft: &mut Draft<F::Encoded>) {
        for (step, direction, ended) in self.flight.take_ended() {
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
                Ended::Lapsed { .. } if self.core.is_shutting_down() => continue,
                Ended::Lapsed { doubt } => {
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
                .flight
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
                self.obey(draft, command);
            }
            if !again {
                return;
            }
        }
    }

    fn obey(&self, draft: &mut Draft<F::Encoded>, command: Command) {
        let why = |kind, step: u16, text: String, draft: &mut Draft<F::Encoded>| {
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
            Command::CountAsUndone(step) => draft.push(EntryKind::UndoDone, step, None, None),
            Command::Unwind(reason) => {
                let text = match reason {
                    Reason::Step(step) => self.about(draft, step),
                    Reason::Cancelled => "cancelled".to_owned(),
                    Reason::Deadline => "deadline passed".to_owned(),
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

    /// What is wrong with a step, from what is about to be written of it.
    fn about(&self, draft: &Draft<F::Encoded>, step: u16) -> String {
        let name = self.core.definition.inner.step_name(step);
        let own = |entry: &&Entry<F::Encoded>| entry.step == step && entry.note.is_some();
        match draft.entries.iter().rev().find(own).and_then(|entry| entry.note.as_deref()) {
            Some(note) => format!("{name}: {note}"),
            None => format!("{name}: failed before"),
        }
    }

    /// The store can never hold this draft. Outputs that are too large together may fit one by one; one that
    /// is too large alone is an action in doubt: it was done, but nobody will know what it made.
    pub(super) fn without_outputs(
        &mut self,
        draft: Draft<F::Encoded>,
        error: &StoreError,
    ) -> Result<Draft<F::Encoded>, SagaError> {
        let mut outputs = draft.outputs.into_iter();
        let Some((first, output)) = outputs.next() else {
            return Err(SagaError::Store { saga: self.id, error: error.clone() });
        };
        let mut alone = true;
        for (step, output) in outputs {
            alone = false;
            let done = Ended::Attempt(Attempt::Done(output));
            self.flight.put_back(step, Direction::Action, done);
        }
        // What had lapsed before is begun again; what is begun for the first time is decided anew.
        for Launch { step, direction, doubt } in draft.launch {
            if self.has_begun(step) {
                self.flight.put_back(step, direction, Ended::Lapsed { doubt });
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
