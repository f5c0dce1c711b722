//! What is told of a saga: [`Report`] at its end, [`Tree`] at any time, [`Stats`] of all.

use std::fmt;
use std::sync::Arc;

use buttress::Name;

use crate::saga::define::needs::{Outputs, StepHandle};
use crate::saga::model::entry::{Entry, EntryKind, Status};
use crate::saga::model::plan::Plan;
use crate::saga::model::state::{State, Step};
use crate::saga::store::SagaId;

/// Where a step stands.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StepStatus {
    /// Not begun.
    Pending,
    /// Its action is under way.
    Acting,
    /// Its action is done.
    Done,
    /// Its action had no effect.
    Failed,
    /// Nobody knows whether its action had an effect.
    InDoubt,
    /// Its undo is under way.
    Undoing,
    /// Its effect is gone.
    Undone,
    /// Its undo failed.
    UndoFailed,
}

impl StepStatus {
    fn of(step: Step) -> Self {
        match step {
            Step::Pending => Self::Pending,
            Step::Acting => Self::Acting,
            Step::Done => Self::Done,
            Step::Failed => Self::Failed,
            Step::InDoubt => Self::InDoubt,
            Step::Undoing { .. } => Self::Undoing,
            Step::Undone => Self::Undone,
            Step::UndoFailed { .. } => Self::UndoFailed,
        }
    }

    /// The status in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Acting => "acting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::InDoubt => "in doubt",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::UndoFailed => "undo failed",
        }
    }
}

/// How a saga ended.
#[derive(Clone)]
#[must_use]
pub struct Report {
    pub(super) id: SagaId,
    pub(super) status: Status,
    pub(super) reason: Option<Arc<str>>,
    pub(super) steps: Vec<(Name, StepStatus)>,
    pub(super) outputs: Outputs,
}

impl Report {
    /// Which saga.
    #[must_use]
    pub fn id(&self) -> SagaId {
        self.id
    }

    /// [`Completed`](Status::Completed), [`Compensated`](Status::Compensated) or
    /// [`Stuck`](Status::Stuck).
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Why it was unwound or is stuck; `None` for one that went through.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Every step with where it stands.
    #[must_use]
    pub fn steps(&self) -> &[(Name, StepStatus)] {
        &self.steps
    }

    /// The output of a step; `None` if its action was not done, or it is a step of another definition.
    #[must_use]
    pub fn output<T: Send + Sync + 'static>(&self, step: StepHandle<T>) -> Option<Arc<T>> {
        let (name, _) = self.steps.get(usize::from(step.number()))?;
        if *name == step.name() { self.outputs.get(step) } else { None }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("id", &self.id)
            .field("status", &self.status)
            .field("reason", &self.reason)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

pub(super) fn steps(plan: &Plan, state: &State) -> Vec<(Name, StepStatus)> {
    let steps = plan.steps.iter().zip(&state.steps);
    steps.map(|(plan, step)| (plan.name, StepStatus::of(*step))).collect()
}

/// A saga as its log tells it. Its `Display` is a tree for people.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Tree {
    /// Which saga.
    pub id: SagaId,
    /// The name of its definition.
    pub definition: Name,
    /// Where it stands.
    pub status: Status,
    /// Why it unwinds or is stuck.
    pub reason: Option<String>,
    /// Its steps, in the order of the definition.
    pub steps: Vec<TreeStep>,
}

/// A step of a [`Tree`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TreeStep {
    /// Its name.
    pub name: Name,
    /// Where it stands.
    pub status: StepStatus,
    /// The names of the steps it comes after.
    pub after: Vec<Name>,
    /// What the log last said of it.
    pub note: Option<String>,
}

impl Tree {
    pub(super) fn new<P>(
        id: SagaId,
        definition: Name,
        plan: &Plan,
        state: &State,
        entries: &[Entry<P>],
    ) -> Self {
        let name = |number: &u16| plan.steps.get(usize::from(*number)).map(|step| step.name);
        let about = |number: usize| {
            let own =
                |entry: &&Entry<P>| usize::from(entry.step()) == number && !is_whole(entry.kind());
            entries.iter().rev().find(own).and_then(Entry::note).map(str::to_owned)
        };
        let steps = plan.steps.iter().zip(&state.steps).enumerate();
        let steps = steps.map(|(number, (plan, step))| TreeStep {
            name: plan.name,
            status: StepStatus::of(*step),
            after: plan.parents.iter().filter_map(name).collect(),
            note: about(number).filter(|_| *step != Step::Pending && *step != Step::Acting),
        });
        Self {
            id,
            definition,
            status: state.status(),
            reason: reason(entries),
            steps: steps.collect(),
        }
    }
}

/// Entries that speak of the whole saga.
fn is_whole(kind: EntryKind) -> bool {
    matches!(
        kind,
        EntryKind::Unwinding | EntryKind::Stuck | EntryKind::Completed | EntryKind::Compensated
    )
}

/// Why the saga unwinds or is stuck.
pub(super) fn reason<P>(entries: &[Entry<P>]) -> Option<String> {
    let why = entries.iter().rev().find_map(|entry| match entry {
        Entry::Unwinding { why } | Entry::Stuck { why, .. } => Some(why),
        _ => None,
    });
    why.cloned().flatten()
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.definition, self.id, self.status.as_str())?;
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            let branch = if number + 1 == self.steps.len() { "└─" } else { "├─" };
            write!(f, "\n{branch} {}: {}", step.name, step.status.as_str())?;
            if let Some((first, rest)) = step.after.split_first() {
                write!(f, ", after {first}")?;
                rest.iter().try_for_each(|name| write!(f, " and {name}"))?;
            }
            if let Some(note) = &step.note {
                write!(f, " ({note})")?;
            }
        }
        Ok(())
    }
}

/// What this executor did since it was made.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// Sagas started here. Those taken over are not among them.
    pub started: u64,
    /// Sagas taken over from workers that vanished, and from operators' decisions.
    pub resumed: u64,
    /// Sagas that went through.
    pub completed: u64,
    /// Sagas that were undone.
    pub compensated: u64,
    /// Sagas that got stuck, each time they did.
    pub stuck: u64,
    /// Sagas somebody else took over.
    pub fenced: u64,
    /// Actions that were done.
    pub steps_executed: u64,
    /// Actions that failed or stayed in doubt.
    pub steps_failed: u64,
    /// Undos that were done. A step without an undo is not counted.
    pub compensations_executed: u64,
    /// Undos that failed after all their attempts.
    pub compensations_failed: u64,
    /// Sagas that run here now.
    pub active: u64,
}
