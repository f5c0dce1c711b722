//! The decision about the next steps of a saga.

use super::{Command, Hold, Phase, Reason, Situation, State, Step};
use crate::saga::model::plan::{Kind, Plan, StepPlan};

impl State {
    /// Returns the commands that are possible now. Empty while steps run, and when the saga is
    /// stuck or has ended.
    pub(in crate::saga) fn decide(&self, plan: &Plan, situation: Situation) -> Vec<Command> {
        let mut commands = Vec::new();
        self.decide_into(plan, situation, &mut commands);
        commands
    }

    /// Adds the commands of [`decide`](Self::decide) to `commands`.
    pub(in crate::saga) fn decide_into(
        &self,
        plan: &Plan,
        situation: Situation,
        commands: &mut Vec<Command>,
    ) {
        if self.stuck {
            return;
        }
        match self.phase {
            Phase::Forward => self.forward(plan, situation, commands),
            Phase::Unwinding => commands.extend(self.unwinding(plan)),
            Phase::Completed | Phase::Compensated => {}
        }
    }

    /// Whether a step waits, or the saga waits for its parent.
    pub(in crate::saga) fn has_wait(&self) -> bool {
        !self.waits.is_empty() || self.hold == Hold::Held
    }

    /// Whether the saga only waits, for times, signals or its parent, so that no worker needs to run it until then.
    pub(in crate::saga) fn is_waiting(&self, plan: &Plan, situation: Situation) -> bool {
        self.has_wait()
            && self.phase == Phase::Forward
            && !self.stuck
            && self.running() == 0
            && self.decide(plan, situation).is_empty()
    }

    /// Whether the saga is past its point of no return, so that failures do not unwind it any more.
    pub(in crate::saga) fn is_committed(&self, plan: &Plan) -> bool {
        self.hold.is_committed()
            || self.each(plan).any(|(_, step, kind)| match kind {
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

    fn forward(&self, plan: &Plan, situation: Situation, commands: &mut Vec<Command>) {
        let (mut running, mut all_done, mut pivoting, mut failed) = (0, true, false, false);
        for (step, plan) in self.steps.iter().zip(&plan.steps) {
            all_done &= *step == Step::Done;
            match step {
                Step::Acting => {
                    running += 1;
                    pivoting |= plan.kind == Kind::Pivot;
                }
                Step::Undoing { .. } => running += 1,
                Step::Failed | Step::InDoubt => failed = true,
                _ => {}
            }
        }
        if failed {
            return commands.extend(self.after_failure(plan, running));
        }
        // A pivot in progress decides the direction, so the saga waits for it.
        if (situation.cancelled || situation.past_deadline) && !pivoting && !self.is_committed(plan)
        {
            if situation.cancelled {
                return commands.push(Command::Unwind(Reason::Cancelled));
            }
            // A saga whose steps are all done at the deadline is in time.
            if !all_done {
                return commands.push(Command::Unwind(Reason::Deadline));
            }
        }
        if all_done {
            return commands.extend(self.finish(plan, situation));
        }
        let done = |parent: &u16| self.steps.get(usize::from(*parent)) == Some(&Step::Done);
        let mut room = plan.max_concurrent.saturating_sub(running);
        for ((number, step), plan) in (0u16..).zip(&self.steps).zip(&plan.steps) {
            if *step != Step::Pending || !plan.parents.iter().all(done) {
                continue;
            }
            if plan.waits.is_some() {
                commands.push(Command::Wait(number));
            } else if room > 0 {
                room -= 1;
                commands.push(Command::Act(number));
            }
        }
    }

    /// Returns the command of a saga with a step that failed or is in doubt. `running`: how many actions are in
    /// progress.
    fn after_failure(&self, plan: &Plan, running: usize) -> Option<Command> {
        let is_committed = self.is_committed(plan);
        let mut stuck = None;
        for ((number, step), plan) in (0u16..).zip(&self.steps).zip(&plan.steps) {
            match (step, plan.kind) {
                // A wait that failed. Past the point of no return nothing is undone for it.
                (Step::Failed, Kind::Compensatable) if plan.waits.is_some() && is_committed => {
                    stuck = Some(number);
                }
                (Step::Failed, Kind::Compensatable | Kind::Pivot)
                | (Step::InDoubt, Kind::Compensatable) => {
                    return Some(Command::Unwind(Reason::Step(number)));
                }
                // Past the pivot there is no way back, and a pivot in doubt may be past it.
                (Step::InDoubt, _) | (Step::Failed, Kind::Retryable) => stuck = Some(number),
                _ => {}
            }
        }
        // Steps in progress may still end by themselves. Their ends are recorded before the
        // saga is stuck.
        stuck.filter(|_| running == 0).map(Command::Stick)
    }

    /// Returns the command of a saga whose steps are all done.
    fn finish(&self, plan: &Plan, situation: Situation) -> Option<Command> {
        match self.hold {
            Hold::Free if plan.holds_children => Some(Command::Commit),
            Hold::Due => Some(Command::Hold),
            // The parent decides.
            Hold::Held => None,
            // The run commits the children first.
            Hold::Committed if plan.holds_children && !situation.children_committed => None,
            Hold::Free | Hold::Committed | Hold::Settled => Some(Command::Complete),
        }
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
