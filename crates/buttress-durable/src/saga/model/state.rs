//! What a saga does next: `fold` of its log, `decide` over its plan. Pure.

use crate::saga::model::entry::{Entry, EntryKind, Status};
use crate::saga::model::plan::{Kind, Plan, StepPlan};

/// Where one step stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::saga) enum Step {
    /// Not begun.
    Pending,
    /// Its action may be under way.
    Acting,
    /// Its action had its effect.
    Done,
    /// Its action certainly had no effect.
    Failed,
    /// Its action may have had an effect.
    InDoubt,
    /// Its undo may be under way; `in_doubt` as before it.
    Undoing { in_doubt: bool },
    /// Its effect is gone.
    Undone,
    /// Its undo failed; `in_doubt` as before it.
    UndoFailed { in_doubt: bool },
}

/// Which way a saga goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::saga) enum Phase {
    Forward,
    Unwinding,
    Completed,
    Compensated,
}

/// A saga as its log tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::saga) struct State {
    pub(in crate::saga) phase: Phase,
    pub(in crate::saga) steps: Vec<Step>,
    /// An operator must decide.
    pub(in crate::saga) stuck: bool,
}

/// What is known beside the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::saga) struct Situation {
    pub(in crate::saga) cancelled: bool,
    pub(in crate::saga) past_deadline: bool,
}

/// Why a saga unwinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::saga) enum Reason {
    Step(u16),
    Cancelled,
    Deadline,
}

/// What to write down, and do, next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::saga) enum Command {
    /// Write that the action may leave, then let it.
    Act(u16),
    /// Write that the undo may leave, then let it.
    Undo(u16),
    /// Write that steps are undone from here on.
    Unwind(Reason),
    /// Write that a step waits for an operator.
    Stick(u16),
    Complete,
    Compensate,
}

impl State {
    pub(in crate::saga) fn new(steps: usize) -> Self {
        Self { phase: Phase::Forward, steps: vec![Step::Pending; steps], stuck: false }
    }

    /// The state after `entries`.
    ///
    /// # Errors
    /// An entry that cannot follow those before it: its position, and why.
    pub(in crate::saga) fn fold<'a, P: 'a>(
        steps: usize,
        entries: impl IntoIterator<Item = &'a Entry<P>>,
    ) -> Result<Self, String> {
        let mut state = Self::new(steps);
        for (position, entry) in entries.into_iter().enumerate() {
            state
                .apply(entry.kind(), entry.step())
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

    /// Takes one entry of the log over.
    pub(in crate::saga) fn apply(&mut self, kind: EntryKind, step: u16) -> Result<(), String> {
        if matches!(self.phase, Phase::Completed | Phase::Compensated) {
            return Err("the saga had ended".to_owned());
        }
        let count = self.steps.len();
        let forward = self.phase == Phase::Forward;
        let now = self
            .steps
            .get_mut(usize::from(step))
            .ok_or_else(|| format!("step {step} of a definition with {count} steps"))?;
        *now = match (kind, *now) {
            // Pending => Acting; a worker that takes over starts the step again.
            (EntryKind::ActionStarted, Step::Pending | Step::Acting) => Step::Acting,
            // Acting => how the action ended. In doubt => as an operator found out.
            (EntryKind::ActionDone, Step::Acting) => Step::Done,
            (EntryKind::ActionFailed, Step::Acting) => Step::Failed,
            (EntryKind::ActionInDoubt, Step::Acting) => Step::InDoubt,
            (EntryKind::Happened, Step::InDoubt | Step::Failed) if forward => Step::Done,
            (EntryKind::DidNotHappen, Step::InDoubt) if forward => Step::Failed,
            // Done or in doubt => Undoing, and again by a worker that takes over.
            (EntryKind::UndoStarted, Step::Done) => Step::Undoing { in_doubt: false },
            (EntryKind::UndoStarted, Step::InDoubt) => Step::Undoing { in_doubt: true },
            (EntryKind::UndoStarted, Step::Undoing { in_doubt }) => Step::Undoing { in_doubt },
            // Undoing => how the undo ended.
            (EntryKind::UndoDone, Step::Undoing { .. }) => Step::Undone,
            (EntryKind::UndoFailed, Step::Undoing { in_doubt }) => Step::UndoFailed { in_doubt },
            // Stuck => an operator tries again, or lets an undo be.
            (EntryKind::Retried, Step::UndoFailed { in_doubt }) => match in_doubt {
                true => Step::InDoubt,
                false => Step::Done,
            },
            // In doubt => Acting, at once: were it pending, a deadline or a cancel could come first, and
            // what may have happened would be forgotten.
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
            // Forward => Unwinding: a step failed, or somebody wants it so.
            EntryKind::Unwinding => self.phase = Phase::Unwinding,
            EntryKind::Stuck => self.stuck = true,
            // Stuck => going on: an operator has decided.
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

    /// What can be done now. Empty while there is only to wait, and when the saga is over or stuck.
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

    /// Whether the point of no return is behind: failures do not unwind any more.
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
                (Step::Failed, Kind::Compensatable | Kind::Pivot)
                | (Step::InDoubt, Kind::Compensatable) => {
                    return vec![Command::Unwind(Reason::Step(number))];
                }
                // Past the pivot there is no way back, and a pivot in doubt may be it.
                (Step::InDoubt, _) | (Step::Failed, Kind::Retryable) => stuck = Some(number),
                (Step::Acting, Kind::Pivot) => pivoting = true,
                _ => {}
            }
        }
        if let Some(number) = stuck {
            // What runs may still end by itself, and is written down before the saga rests.
            return if self.running() == 0 { vec![Command::Stick(number)] } else { Vec::new() };
        }
        let all_done = self.steps.iter().all(|step| *step == Step::Done);
        // A pivot under way is waited for: only its outcome says which way to go.
        if !pivoting && !self.is_committed(plan) {
            if situation.cancelled {
                return vec![Command::Unwind(Reason::Cancelled)];
            }
            // What is all done at the deadline is done in time.
            if situation.past_deadline && !all_done {
                return vec![Command::Unwind(Reason::Deadline)];
            }
        }
        if all_done {
            return vec![Command::Complete];
        }
        let done = |parent: &u16| self.steps.get(usize::from(*parent)) == Some(&Step::Done);
        let ready = self.each(plan).zip(&plan.steps).filter_map(|((number, step, _), plan)| {
            (step == Step::Pending && plan.parents.iter().all(done)).then_some(Command::Act(number))
        });
        ready.take(plan.max_concurrent.saturating_sub(self.running())).collect()
    }

    fn unwinding(&self, plan: &Plan) -> Vec<Command> {
        // Actions under way end first: what they did must be known before it is undone.
        if self.steps.contains(&Step::Acting) {
            return Vec::new();
        }
        // In doubt before all others: they may still be happening. Nothing waits for a step in doubt that
        // has no undo: it stays in doubt.
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

    /// For each step, whether what it depended on may be undone: its effect is gone, or nothing undoes it and
    /// that holds for all steps that depended on it.
    fn gone(&self, plan: &Plan) -> Vec<bool> {
        let mut gone = vec![false; self.steps.len()];
        for number in plan.order.iter().rev().map(|number| usize::from(*number)) {
            let (Some(step), Some(plan)) = (self.steps.get(number), plan.steps.get(number)) else {
                continue;
            };
            let is_gone = match step {
                Step::Pending | Step::Failed | Step::Undone => true,
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
