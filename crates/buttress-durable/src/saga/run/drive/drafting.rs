//! The content of the next draft of a saga's log.

use buttress::{Codec, StoreError};

use super::Run;
use crate::caught::caught;
use crate::saga::error::SagaError;
use crate::saga::model::entry::Entry;
use crate::saga::model::state::{Command, Phase, Reason, Situation, Step};
use crate::saga::run::attempt::{Attempt, DEADLINE};
use crate::saga::run::call::Direction;
use crate::saga::run::draft::{Draft, Launch};
use crate::saga::run::step_runs::{Ended, Finished};
use crate::saga::store::Store;
use crate::text;

/// The reason of a saga that unwinds because it was cancelled.
const CANCELLED: &str = "cancelled";

/// The text of a step that a cancel stopped before it called the service.
pub(super) const NOT_SENT: &str = "cancelled before the service was called";

/// Returns the end of an attempt without success, of an action or an undo.
fn unsuccessful<P>(step: u16, direction: Direction, why: String, in_doubt: bool) -> Entry<P> {
    let why = Some(why);
    match direction {
        Direction::Undo => Entry::UndoFailed { step, why },
        Direction::Action if in_doubt => Entry::ActionInDoubt { step, why },
        Direction::Action => Entry::ActionFailed { step, why },
    }
}

impl<I, F, St> Run<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Adds the ends of steps to the draft.
    pub(super) fn take_in(&mut self, draft: &mut Draft<F::Encoded>) {
        let mut taken = self.step_runs.take_ended();
        for finished in taken.drain(..) {
            if draft.is_full() {
                self.step_runs.put_back(finished);
                continue;
            }
            let Finished { step, direction, ended, attempted } = finished;
            // A step that lapsed is not at its end.
            if let (Some(_), Ended::Attempt(attempt)) = (&attempted, &ended) {
                if !matches!(attempt, Attempt::Lapsed { .. }) {
                    draft.push(Entry::Attempted { step, why: attempted });
                }
            }
            let output = match ended {
                Ended::Attempt(Attempt::Done(output)) => output,
                Ended::Attempt(Attempt::Failed(failure)) => {
                    draft.push(unsuccessful(step, direction, failure.why, false));
                    continue;
                }
                Ended::Attempt(Attempt::InDoubt(failure)) => {
                    draft.push(unsuccessful(step, direction, failure.why, true));
                    continue;
                }
                // The log keeps the step in progress.
                Ended::Attempt(Attempt::Stuck(failure)) => {
                    self.blocked.push((step, failure.why));
                    continue;
                }
                // The log keeps the step in progress: the worker that resumes the saga runs it.
                Ended::Lapsed { .. } | Ended::Attempt(Attempt::Lapsed { .. })
                    if self.core.is_shutting_down() =>
                {
                    continue;
                }
                // It would lapse again. It begins when the lease is renewed.
                Ended::Lapsed { doubt } | Ended::Attempt(Attempt::Lapsed { doubt })
                    if !self.core.lease.is_live() =>
                {
                    self.step_runs.put_back(Finished::new(
                        step,
                        direction,
                        Ended::Lapsed { doubt },
                    ));
                    continue;
                }
                Ended::Lapsed { doubt } | Ended::Attempt(Attempt::Lapsed { doubt }) => {
                    draft.begin(Launch { step, direction, doubt });
                    continue;
                }
            };
            match direction {
                Direction::Undo => draft.push(Entry::UndoDone { step }),
                Direction::Action => {
                    let encoded = caught(|| self.core.definition.inner.encode(step, &output));
                    match encoded.and_then(|encoded| encoded.map_err(|error| error.to_string())) {
                        Ok(encoded) => {
                            draft.push(Entry::ActionDone { step, output: encoded });
                            draft.outputs.push((step, output));
                        }
                        Err(why) => {
                            let why = Some(format!("the output cannot be encoded: {why}"));
                            draft.push(Entry::ActionInDoubt { step, why });
                        }
                    }
                }
            }
        }
        self.step_runs.keep_room(taken);
    }

    /// Adds the commands of the state machine until it has no more.
    pub(super) fn decide(&self, draft: &mut Draft<F::Encoded>) {
        if !self.blocked.is_empty() {
            return self.stick_to_child(draft);
        }
        let plan = &self.core.definition.inner.plan;
        let situation = self.situation();
        draft.knows_cancel = situation.cancelled;
        let mut commands = std::mem::take(&mut draft.commands);
        loop {
            draft.state.decide_into(plan, situation, &mut commands);
            // Started steps do not change which other steps can start.
            let again = !commands
                .iter()
                .all(|command| matches!(command, Command::Act(_) | Command::Undo(_)));
            if commands.is_empty() {
                break;
            }
            for command in commands.drain(..) {
                // A saga is created with status `Running`, so it does not end in the write that creates it.
                let is_end = matches!(
                    command,
                    Command::Stick(_)
                        | Command::Hold
                        | Command::Commit
                        | Command::Complete
                        | Command::Compensate
                );
                draft.leaves_commands = is_end && self.creating.is_some();
                if draft.is_full() || draft.leaves_commands {
                    return;
                }
                self.obey(draft, command);
            }
            if !again {
                break;
            }
        }
        draft.commands = commands;
    }

    /// Returns the facts beside the log that a decision needs.
    pub(super) fn situation(&self) -> Situation {
        Situation {
            cancelled: self.control.is_cancelled(),
            past_deadline: self.is_past_deadline(),
            children_committed: self.children_committed,
        }
    }

    pub(super) fn obey(&self, draft: &mut Draft<F::Encoded>, command: Command) {
        match command {
            Command::Act(step) => {
                draft.begin(Launch { step, direction: Direction::Action, doubt: false });
            }
            Command::Wait(step) => self.begin_wait(draft, step),
            Command::Undo(step) => {
                draft.begin(Launch { step, direction: Direction::Undo, doubt: false });
            }
            Command::Unwind(reason) => {
                let text = match reason {
                    Reason::Step(step) => self.about(draft, step),
                    Reason::Cancelled => CANCELLED.to_owned(),
                    Reason::Deadline => DEADLINE.to_owned(),
                };
                draft.push(Entry::Unwinding { why: Some(text) });
            }
            Command::Stick(step) => {
                let why = Some(self.about(draft, step));
                draft.push(Entry::Stuck { step, why });
            }
            Command::Hold => draft.push(Entry::Held),
            Command::Commit => draft.push(Entry::Committed),
            Command::Complete => draft.push(Entry::Completed),
            Command::Compensate => draft.push(Entry::Compensated),
        }
    }

    /// Returns the reason why a step is not done, from the draft or from the log.
    fn about(&self, draft: &Draft<F::Encoded>, step: u16) -> String {
        let own = draft.entries.iter().rev().filter(|entry| entry.step() == step);
        let note = own.filter_map(Entry::note).next();
        match note.or_else(|| self.notes.get(&step).map(|note| &**note)) {
            // The step did not fail by itself.
            Some(NOT_SENT) => CANCELLED.to_owned(),
            Some(DEADLINE) => DEADLINE.to_owned(),
            Some(note) => self.said_of(draft, step, note),
            None => self.said_of(draft, step, "failed before"),
        }
    }

    /// Returns a text with the name of the step in front of it. An operator must not take an undo for its action.
    pub(super) fn said_of(&self, draft: &Draft<F::Encoded>, step: u16, text: &str) -> String {
        let name = self.core.definition.inner.step_name(step);
        let undo = match draft.state.steps.get(usize::from(step)) {
            Some(Step::Undoing { .. } | Step::UndoFailed { .. }) => "undo of ",
            _ => "",
        };
        text::cut(format_args!("{undo}{name}: {text}"))
    }

    /// Returns the draft that follows one that the store has left out, because the saga has signals or a cancel that
    /// this run had not seen.
    pub(super) fn left_out(&mut self, draft: Draft<F::Encoded>) -> Draft<F::Encoded> {
        self.signals.is_stale |= draft.seen_signals.is_some();
        let mut again = Draft::new(self.durable.clone());
        if draft.ends_without_signal {
            // Everything in it follows from the end of the wait.
            return again;
        }
        if draft.state.phase != Phase::Completed {
            return Draft { due_in: None, seen_signals: None, ..draft };
        }
        // The facts stay, and the end is decided again.
        let facts = draft.entries.into_iter().filter(|entry| !matches!(entry, Entry::Completed));
        facts.for_each(|entry| again.push(entry));
        again.outputs = draft.outputs;
        again
    }

    /// Removes the texts from a draft that a store refuses although they were cut. Returns `None`
    /// if it has no texts.
    fn without_notes(mut draft: Draft<F::Encoded>) -> Option<Draft<F::Encoded>> {
        let notes = draft.entries.iter_mut().filter_map(Entry::note_mut);
        let dropped = notes.filter_map(Option::take).count();
        (dropped > 0).then_some(draft)
    }

    /// Splits a draft that the store can never hold. Outputs that are too large together may fit
    /// one by one. An output that is too large alone leaves its action in doubt: the action was
    /// done, but its output is lost.
    pub(super) fn without_outputs(
        &mut self,
        draft: Draft<F::Encoded>,
        error: &StoreError,
    ) -> Result<Draft<F::Encoded>, SagaError> {
        let mut draft = draft;
        let mut outputs = std::mem::take(&mut draft.outputs);
        // The next draft takes the signals again.
        outputs.retain(|(step, _)| !self.core.definition.inner.takes_signal(*step));
        let mut outputs = outputs.into_iter();
        let Some((first, output)) = outputs.next() else {
            let refused = || SagaError::Store { saga: self.id, error: error.clone() };
            return Self::without_notes(draft).ok_or_else(refused);
        };
        let mut alone = true;
        for (step, output) in outputs {
            alone = false;
            let done = Ended::Attempt(Attempt::Done(output));
            self.step_runs.put_back(Finished::new(step, Direction::Action, done));
        }
        // Steps that had lapsed begin again. Steps that begin for the first time are decided again.
        for Launch { step, direction, doubt } in draft.launch {
            if self.has_begun(step) {
                self.step_runs.put_back(Finished::new(step, direction, Ended::Lapsed { doubt }));
            }
        }
        let mut again = Draft::new(self.durable.clone());
        for entry in draft.entries {
            match entry {
                Entry::ActionDone { step, .. } if step != first => {}
                Entry::ActionDone { step, .. } if alone => {
                    let why = Some(format!("the output cannot be stored: {error}"));
                    again.push(Entry::ActionInDoubt { step, why });
                }
                Entry::ActionDone { .. }
                | Entry::ActionFailed { .. }
                | Entry::ActionInDoubt { .. }
                | Entry::UndoDone { .. }
                | Entry::UndoFailed { .. }
                | Entry::Attempted { .. } => again.push(entry),
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
