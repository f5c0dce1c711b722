//! The next steps of a saga: `fold` reads its log, `decide` compares it with its plan. Pure.

use std::time::Duration;

use crate::saga::model::entry::{Entry, EntryKind, Status};
use crate::saga::model::plan::{Kind, Plan, StepPlan};

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

/// The state of a saga according to its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::saga) struct State {
    pub(in crate::saga) phase: Phase,
    pub(in crate::saga) steps: Vec<Step>,
    /// An operator must decide.
    pub(in crate::saga) stuck: bool,
    /// The steps that wait, each with the length of its wait from its last entry on.
    pub(in crate::saga) waits: Vec<(u16, Duration)>,
}

/// The facts beside the log that a decision needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::saga) struct Situation {
    pub(in crate::saga) cancelled: bool,
    pub(in crate::saga) past_deadline: bool,
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
    Complete,
    Compensate,
}

impl State {
    pub(in crate::saga) fn new(steps: usize) -> Self {
        let steps = vec![Step::Pending; steps];
        Self { phase: Phase::Forward, steps, stuck: false, waits: Vec::new() }
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
        if kind != EntryKind::WaitStarted {
            return self.apply(kind, step);
        }
        let length = entry.wait().ok_or("the length of the wait cannot be read")?;
        self.apply(kind, step)?;
        self.waits.retain(|(waiting, _)| *waiting != step);
        self.waits.push((step, length));
        Ok(())
    }

    /// Applies one entry of the log, except for the length of a wait.
    pub(in crate::saga) fn apply(&mut self, kind: EntryKind, step: u16) -> Result<(), String> {
        if matches!(self.phase, Phase::Completed | Phase::Compensated) {
            return Err("the saga has ended".to_owned());
        }
        let count = self.steps.len();
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

    /// Returns the commands that are possible now. Empty while steps run, and when the saga is
    /// stuck or has ended.
    pub(in crate::saga) fn decide(&self, plan: &Plan, situation: Situation) -> Vec<Command> {
        if self.stuck {
            return Vec::new();
        }
        match self.phase {
            Phase::Forward => self.forward(plan, situation),
            Phase::Unwinding => self.unwinding(plan),
            Phase::Completed | Phase::Compensated => Vec::new(),
        }
    }

    /// Whether the saga only waits, for times or signals, so that no worker needs to run it until then.
    pub(in crate::saga) fn is_waiting(&self, plan: &Plan, situation: Situation) -> bool {
        !self.waits.is_empty()
            && self.phase == Phase::Forward
            && !self.stuck
            && self.running() == 0
            && self.decide(plan, situation).is_empty()
    }

    /// Whether the saga is past its point of no return, so that failures do not unwind it any more.
    pub(in crate::saga) fn is_committed(&self, plan: &Plan) -> bool {
        self.each(plan).any(|(_, step, kind)| match kind {
            Kind::Compensatable => false,
            Kind::Pivot => step == Step::Done,
            Kind::Retryable => step != Step::Pending,
        })
    }

    fn each<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = (u16, Step, Kind)> + 'a {
        let numbered = (0u16..).zip(&self.steps).zip(&plan.steps);
        numbered.map(|((number, step), plan)| (number, *step, plan.kind))
    }

    fn running(&self) -> usize {
        let runs = |step: &&Step| matches!(step, Step::Acting | Step::Undoing { .. });
        self.steps.iter().filter(runs).count()
    }

    fn forward(&self, plan: &Plan, situation: Situation) -> Vec<Command> {
        let mut stuck = None;
        let mut pivoting = false;
        for (number, step, kind) in self.each(plan) {
            match (step, kind) {
                // A wait that failed. Past the point of no return nothing is undone for it.
                (Step::Failed, Kind::Compensatable)
                    if plan
                        .steps
                        .get(usize::from(number))
                        .is_some_and(|step| step.waits.is_some())
                        && self.is_committed(plan) =>
                {
                    stuck = Some(number);
                }
                (Step::Failed, Kind::Compensatable | Kind::Pivot)
                | (Step::InDoubt, Kind::Compensatable) => {
                    return vec![Command::Unwind(Reason::Step(number))];
                }
                // Past the pivot there is no way back, and a pivot in doubt may be past it.
                (Step::InDoubt, _) | (Step::Failed, Kind::Retryable) => stuck = Some(number),
                (Step::Acting, Kind::Pivot) => pivoting = true,
                _ => {}
            }
        }
        if let Some(number) = stuck {
            // Steps in progress may still end by themselves. Their ends are recorded before the
            // saga is stuck.
            return if self.running() == 0 { vec![Command::Stick(number)] } else { Vec::new() };
        }
        let all_done = self.steps.iter().all(|step| *step == Step::Done);
        // A pivot in progress decides the direction, so the saga waits for it.
        if !pivoting && !self.is_committed(plan) {
            if situation.cancelled {
                return vec![Command::Unwind(Reason::Cancelled)];
            }
            // A saga whose steps are all done at the deadline is in time.
            if situation.past_deadline && !all_done {
                return vec![Command::Unwind(Reason::Deadline)];
            }
        }
        if all_done {
            return vec![Command::Complete];
        }
        let done = |parent: &u16| self.steps.get(usize::from(*parent)) == Some(&Step::Done);
        let mut room = plan.max_concurrent.saturating_sub(self.running());
        let ready = self.each(plan).zip(&plan.steps).filter_map(|((number, step, _), plan)| {
            if step != Step::Pending || !plan.parents.iter().all(done) {
                return None;
            }
            if plan.waits.is_some() {
                return Some(Command::Wait(number));
            }
            room = room.checked_sub(1)?;
            Some(Command::Act(number))
        });
        ready.collect()
    }

    fn unwinding(&self, plan: &Plan) -> Vec<Command> {
        // Actions in progress end first: their effects must be known before they are undone.
        if self.steps.contains(&Step::Acting) {
            return Vec::new();
        }
        // Steps in doubt come before all others, because their actions may still be in progress.
        // Steps in doubt without an undo stay in doubt, and no step waits for them.
        let doubtful = |(step, plan): (&Step, &StepPlan)| match step {
            Step::InDoubt => plan.has_undo,
            Step::Undoing { in_doubt } | Step::UndoFailed { in_doubt } => *in_doubt,
            _ => false,
        };
        let doubt_first = self.steps.iter().zip(&plan.steps).any(doubtful);
        let gone = self.gone(plan);
        let gone = |child: &u16| gone.get(usize::from(*child)).is_none_or(|gone| *gone);
        let room = plan.max_concurrent.saturating_sub(self.running());
        let steps = (0u16..).zip(&self.steps).zip(&plan.steps);
        let undone = steps.filter_map(|((number, step), plan)| {
            let next = match step {
                Step::InDoubt => true,
                Step::Done => !doubt_first && plan.children.iter().all(gone),
                _ => false,
            };
            (next && plan.has_undo).then_some(Command::Undo(number))
        });
        let mut commands: Vec<_> = undone.take(room).collect();
        if commands.is_empty() && self.running() == 0 {
            let failed = |step: &Step| matches!(step, Step::UndoFailed { .. });
            commands.push(match self.steps.iter().position(failed) {
                Some(number) => Command::Stick(number as u16),
                None => Command::Compensate,
            });
        }
        commands
    }

    /// Returns for each step whether the steps that it depended on may be undone. They may if its
    /// effect is undone, or if it has no undo and the same is true of all steps that depended on
    /// it.
    fn gone(&self, plan: &Plan) -> Vec<bool> {
        let mut gone = vec![false; self.steps.len()];
        for number in plan.order.iter().rev().map(|number| usize::from(*number)) {
            let (Some(step), Some(plan)) = (self.steps.get(number), plan.steps.get(number)) else {
                continue;
            };
            let is_gone = match step {
                Step::Pending | Step::Waiting | Step::Failed | Step::Undone => true,
                Step::Done | Step::InDoubt if !plan.has_undo => {
                    let gone = |child: &u16| gone.get(usize::from(*child)) == Some(&true);
                    plan.children.iter().all(gone)
                }
                _ => false,
            };
            if let Some(gone) = gone.get_mut(number) {
                *gone = is_gone;
            }
        }
        gone
    }
}

#[cfg(test)]
#[path = "state/tests.rs"]
mod tests;
