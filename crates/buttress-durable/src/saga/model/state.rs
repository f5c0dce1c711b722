//! The next steps of a saga: `fold` reads its log, `decide` compares it with its plan. Pure.

use std::time::Duration;

use crate::saga::model::child::Parent;
use crate::saga::model::entry::{Entry, EntryKind, Status};

mod deciding;

/// The state of one step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::saga) enum Step {
    /// It has not begun.
    Pending,
    /// Its action may be in progress.
    Acting,
    /// It waits for a time or a signal.
    Waiting,
    /// The action of the step has had its effect.
    Done,
    /// Its action certainly had no effect.
    Failed,
    /// Its action may have had an effect.
    InDoubt,
    /// Its undo may be in progress. `in_doubt`: whether the action was in doubt.
    Undoing { in_doubt: bool },
    /// Its undo is done.
    Undone,
    /// Its undo failed. `in_doubt`: whether the action was in doubt.
    UndoFailed { in_doubt: bool },
}

/// The direction of a saga.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::saga) enum Phase {
    Forward,
    Unwinding,
    Completed,
    Compensated,
}

/// The bond of a saga with its parent, and with the children that it holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::saga) enum Hold {
    /// No parent holds it.
    Free,
    /// A parent holds it once every step is done.
    Due,
    /// Every step is done, and its parent decides.
    Held,
    /// Every step is done, and nothing is undone from here on.
    Committed,
    /// An operator counts its children as committed.
    Settled,
}

impl Hold {
    pub(in crate::saga) const fn is_committed(self) -> bool {
        matches!(self, Self::Committed | Self::Settled)
    }
}

/// The state of a saga according to its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::saga) struct State {
    pub phase: Phase,
    pub steps: Vec<Step>,
    /// An operator must decide.
    pub stuck: bool,
    /// The steps that wait, each with the length of its wait from its last entry on.
    pub waits: Vec<(u16, Duration)>,
    pub hold: Hold,
}

/// The facts beside the log that a decision needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::saga) struct Situation {
    pub cancelled: bool,
    pub past_deadline: bool,
    /// Whether this worker has committed the children of a committed saga.
    pub children_committed: bool,
}

/// The reason why a saga unwinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::saga) enum Reason {
    Step(u16),
    Cancelled,
    Deadline,
}

/// The next entry to record, and the action that follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::saga) enum Command {
    /// Record that the action may start, then start it.
    Act(u16),
    /// Record that the step waits from here on.
    Wait(u16),
    /// Record that the undo may start, then start it.
    Undo(u16),
    /// Record that the saga undoes steps from here on.
    Unwind(Reason),
    /// Record that a step waits for an operator.
    Stick(u16),
    /// Record that the saga waits for the decision of its parent.
    Hold,
    /// Record that nothing is undone from here on. The children are committed next.
    Commit,
    Complete,
    Compensate,
}

impl State {
    pub(in crate::saga) fn new(steps: usize) -> Self {
        let steps = vec![Step::Pending; steps];
        let (stuck, waits, hold) = (false, Vec::new(), Hold::Free);
        Self { phase: Phase::Forward, steps, stuck, waits, hold }
    }

    /// Becomes a copy of `other`, in the room that is there.
    pub(in crate::saga) fn copy_from(&mut self, other: &Self) {
        let Self { phase, steps, stuck, waits, hold } = other;
        self.steps.clone_from(steps);
        self.waits.clone_from(waits);
        (self.phase, self.stuck, self.hold) = (*phase, *stuck, *hold);
    }

    /// Returns the state after `entries`.
    ///
    /// # Errors
    /// Returns an error for an entry that cannot follow the entries before it, with its position
    /// and the reason.
    pub(in crate::saga) fn fold<'a, P: 'a>(
        steps: usize,
        entries: impl IntoIterator<Item = &'a Entry<P>>,
    ) -> Result<Self, String> {
        let mut state = Self::new(steps);
        for (position, entry) in entries.into_iter().enumerate() {
            state
                .add(entry)
                .map_err(|why| format!("entry {position} ({:?}): {why}", entry.kind()))?;
        }
        Ok(state)
    }

    pub(in crate::saga) fn status(&self) -> Status {
        match self.phase {
            Phase::Completed => Status::Completed,
            Phase::Compensated => Status::Compensated,
            _ if self.stuck => Status::Stuck,
            Phase::Forward => Status::Running,
            Phase::Unwinding => Status::Unwinding,
        }
    }

    /// Applies one entry of the log.
    pub(in crate::saga) fn add<P>(&mut self, entry: &Entry<P>) -> Result<(), String> {
        let (kind, step) = (entry.kind(), entry.step());
        if let Entry::ChildOf { parent } = entry {
            let holds = Parent::holds(parent)?;
            self.apply(kind, step)?;
            self.hold = if holds { Hold::Due } else { Hold::Free };
            return Ok(());
        }
        if kind != EntryKind::WaitStarted {
            return self.apply(kind, step);
        }
        let length = entry.wait().ok_or("the length of the wait cannot be read")?;
        self.apply(kind, step)?;
        self.waits.retain(|(waiting, _)| *waiting != step);
        self.waits.push((step, length));
        Ok(())
    }

    /// Applies one entry of the log, except for the length of a wait and the parent of a child.
    pub(in crate::saga) fn apply(&mut self, kind: EntryKind, step: u16) -> Result<(), String> {
        if matches!(self.phase, Phase::Completed | Phase::Compensated) {
            return Err("the saga has ended".to_owned());
        }
        if matches!(kind, EntryKind::ChildOf | EntryKind::Held | EntryKind::Committed) {
            return self.bind(kind);
        }
        let count = self.steps.len();
        let hold = self.hold;
        let forward = self.phase == Phase::Forward;
        let now = self
            .steps
            .get_mut(usize::from(step))
            .ok_or_else(|| format!("there is no step {step}, the definition has {count} steps"))?;
        *now = match (kind, *now) {
            // Pending => Acting. A worker that takes over starts the step again.
            (EntryKind::ActionStarted, Step::Pending | Step::Acting) => Step::Acting,
            // Acting => the end of the action. In doubt => the finding of an operator.
            (EntryKind::ActionDone, Step::Acting) => Step::Done,
            (EntryKind::ActionFailed, Step::Acting) => Step::Failed,
            (EntryKind::ActionInDoubt, Step::Acting) => Step::InDoubt,
            (EntryKind::Happened, Step::InDoubt | Step::Failed) if forward => Step::Done,
            (EntryKind::DidNotHappen, Step::InDoubt) if forward => Step::Failed,
            // Done or in doubt => Undoing. A worker that takes over starts the undo again.
            (EntryKind::UndoStarted, Step::Done) => Step::Undoing { in_doubt: false },
            (EntryKind::UndoStarted, Step::InDoubt) => Step::Undoing { in_doubt: true },
            (EntryKind::UndoStarted, Step::Undoing { in_doubt }) => Step::Undoing { in_doubt },
            (EntryKind::Attempted, now @ (Step::Acting | Step::Undoing { .. })) => now,
            // Pending => Waiting => Done. A worker that resumes the saga starts the wait again.
            (EntryKind::WaitStarted, Step::Pending | Step::Waiting) if forward => Step::Waiting,
            (EntryKind::WaitEnded | EntryKind::Signalled, Step::Waiting) if forward => Step::Done,
            // Waiting => Failed. No signal came in time, or its payload cannot be read.
            (EntryKind::ActionFailed, Step::Waiting) if forward => Step::Failed,
            // Undoing => the end of the undo.
            (EntryKind::UndoDone, Step::Undoing { .. }) => Step::Undone,
            (EntryKind::UndoFailed, Step::Undoing { in_doubt }) => Step::UndoFailed { in_doubt },
            // Stuck => an operator retries or skips an undo.
            (EntryKind::Retried, Step::UndoFailed { in_doubt }) => match in_doubt {
                true => Step::InDoubt,
                false => Step::Done,
            },
            // In doubt => Acting, without Pending in between. A pending step could be cancelled or
            // pass the deadline, and the saga would forget that the action may have happened.
            (EntryKind::Retried, Step::InDoubt) if forward => Step::Acting,
            (EntryKind::Retried, Step::Failed) if forward => Step::Pending,
            (EntryKind::Skipped, Step::UndoFailed { .. }) => Step::Undone,
            // Stuck at a child saga that is stuck: an operator lets the step look at the child again, or skips the undo.
            (EntryKind::Retried, now @ (Step::Acting | Step::Undoing { .. })) => now,
            (EntryKind::Skipped, Step::Undoing { .. }) => Step::Undone,
            (EntryKind::Retried | EntryKind::Skipped, Step::Done) if hold == Hold::Committed => {
                Step::Done
            }
            (EntryKind::Unwinding, _) if hold.is_committed() => {
                return Err("the saga is committed".to_owned());
            }
            (EntryKind::Completed, _) if matches!(hold, Hold::Due | Hold::Held) => {
                return Err("the parent of the saga has not decided".to_owned());
            }
            (
                EntryKind::Unwinding
                | EntryKind::Stuck
                | EntryKind::Completed
                | EntryKind::Compensated,
                step,
            ) => step,
            (kind, step) => return Err(format!("{kind:?} cannot follow {step:?}")),
        };
        match kind {
            // Forward => Unwinding: a step failed, a caller cancelled, or the deadline passed.
            EntryKind::Unwinding => {
                self.phase = Phase::Unwinding;
                // A wait has no effect, so nothing of it is left.
                for (step, _) in self.waits.drain(..) {
                    if let Some(step @ Step::Waiting) = self.steps.get_mut(usize::from(step)) {
                        *step = Step::Pending;
                    }
                }
            }
            EntryKind::WaitEnded | EntryKind::Signalled | EntryKind::ActionFailed => {
                self.waits.retain(|(waiting, _)| *waiting != step);
            }
            // An operator lets a committed saga complete without its children.
            EntryKind::Skipped if hold == Hold::Committed => {
                (self.stuck, self.hold) = (false, Hold::Settled);
            }
            EntryKind::Stuck => self.stuck = true,
            // Stuck => running: an operator has decided.
            EntryKind::Retried
            | EntryKind::Skipped
            | EntryKind::Happened
            | EntryKind::DidNotHappen => self.stuck = false,
            EntryKind::Completed => self.phase = Phase::Completed,
            EntryKind::Compensated => self.phase = Phase::Compensated,
            _ => {}
        }
        Ok(())
    }

    /// Applies an entry about the parent or the children of the saga.
    fn bind(&mut self, kind: EntryKind) -> Result<(), String> {
        let are_all = |wanted: Step| self.steps.iter().all(|step| *step == wanted);
        let forward = self.phase == Phase::Forward && !self.stuck;
        self.hold = match (kind, self.hold) {
            // The first entry of a log.
            (EntryKind::ChildOf, Hold::Free) if forward && are_all(Step::Pending) => Hold::Free,
            // Due => Held. A worker that takes the saga by chance holds it again.
            (EntryKind::Held, Hold::Due | Hold::Held) if forward && are_all(Step::Done) => {
                Hold::Held
            }
            // Held => Committed, by the parent. Free => Committed, for its own children.
            (EntryKind::Committed, Hold::Free | Hold::Held) if forward && are_all(Step::Done) => {
                Hold::Committed
            }
            (kind, hold) => return Err(format!("{kind:?} cannot follow here: {hold:?}")),
        };
        Ok(())
    }
}

#[cfg(test)]
#[path = "state/tests.rs"]
mod tests;
