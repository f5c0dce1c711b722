//! [`Report`] of a saga at its end, [`Tree`] of a saga at any time, [`Stats`] of an executor.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress::__words as words;
use buttress::Name;

use crate::saga::define::needs::{Outputs, StepHandle};
use crate::saga::history::{Histories, StepHistory};
use crate::saga::model::child::Parent;
use crate::saga::model::entry::{Entry, EntryKind, Status};
use crate::saga::model::plan::Plan;
use crate::saga::model::state::{State, Step};
use crate::saga::reasons::Reasons;
use crate::saga::run::child;
use crate::saga::store::{Record, SagaId};

/// The state of a step.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StepStatus {
    /// The step has not begun.
    Pending,
    /// The action is in progress.
    Acting,
    /// The step waits for a time or a signal.
    Waiting,
    /// The action is done.
    Done,
    /// The action certainly had no effect.
    Failed,
    /// Whether the action had an effect is unknown.
    InDoubt,
    /// The undo is in progress.
    Undoing,
    /// The undo is done.
    Undone,
    /// The undo failed.
    UndoFailed,
}

impl StepStatus {
    fn of(step: Step) -> Self {
        match step {
            Step::Pending => Self::Pending,
            Step::Acting => Self::Acting,
            Step::Waiting => Self::Waiting,
            Step::Done => Self::Done,
            Step::Failed => Self::Failed,
            Step::InDoubt => Self::InDoubt,
            Step::Undoing { .. } => Self::Undoing,
            Step::Undone => Self::Undone,
            Step::UndoFailed { .. } => Self::UndoFailed,
        }
    }
}

words! {
    /// Returns the status as words, e.g. "undo failed".
    StepStatus {
        Pending => "pending", Acting => "acting", Waiting => "waiting", Done => "done",
        Failed => "failed", InDoubt => "in doubt", Undoing => "undoing", Undone => "undone",
        UndoFailed => "undo failed",
    }
}

/// The record of how a saga ended.
#[derive(Clone)]
#[must_use]
pub struct Report {
    pub(super) id: SagaId,
    pub(super) status: Status,
    pub(super) reason: Option<Arc<str>>,
    pub(super) steps: Vec<(Name, StepStatus)>,
    pub(super) outputs: Outputs,
    pub(super) history: Vec<StepHistory>,
}

impl Report {
    /// Returns the id of the saga.
    #[must_use]
    pub fn id(&self) -> SagaId {
        self.id
    }

    /// Returns how the saga ended: [`Completed`](Status::Completed),
    /// [`Compensated`](Status::Compensated) or [`Stuck`](Status::Stuck).
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Returns why the saga was unwound or is stuck; `None` for a saga that completed.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns every step with its status.
    #[must_use]
    pub fn steps(&self) -> &[(Name, StepStatus)] {
        &self.steps
    }

    /// Returns the history of every step, in the order of [`steps`](Self::steps): its times, its
    /// attempts and its last error.
    ///
    /// Times of entries that this executor has written are by its own clock.
    #[must_use]
    pub fn history(&self) -> &[StepHistory] {
        &self.history
    }

    /// Returns the output of a step; `None` if its action was not done, or the step is of another
    /// definition.
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

/// The state of a saga according to its log. Its `Display` is a tree for people.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Tree {
    /// The id of the saga.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialised::id"))]
    pub id: SagaId,
    /// The name of its definition.
    pub definition: Name,
    /// The status of the saga.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialised::status"))]
    pub status: Status,
    /// The id of the parent, if the saga is a [child](crate::saga::StepBuilder::child).
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialised::optional_id"))]
    pub parent: Option<SagaId>,
    /// The end of the wait of a [waiting](Status::Waiting) saga, as wall time since 1970 by the store's
    /// clock. `None` for a saga that does not wait, or that waits for its parent, or for a signal without a limit.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::optional"))]
    pub until: Option<Duration>,
    /// The names of the signals for which the saga waits now.
    pub signals: Vec<Name>,
    /// Why the saga unwinds or is stuck.
    pub reason: Option<String>,
    /// When the saga was created, as wall time since 1970 by the store's clock. `None` if a release
    /// that kept no times has created it.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::optional"))]
    pub created_at: Option<Duration>,
    /// The steps, in the order of the definition.
    pub steps: Vec<TreeStep>,
}

/// Values of a [`Tree`] as texts.
#[cfg(feature = "serde")]
mod serialised {
    use serde::Serializer;

    use super::{SagaId, Status, StepStatus};

    pub(super) fn id<S: Serializer>(id: &SagaId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn optional_id<S: Serializer>(
        id: &Option<SagaId>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => serializer.collect_str(id),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn status<S: Serializer>(status: &Status, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(status.as_str())
    }

    pub(super) fn step<S: Serializer>(status: &StepStatus, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(status.as_str())
    }
}

/// A step of a [`Tree`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TreeStep {
    /// The name of the step.
    pub name: Name,
    /// The status of the step.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialised::step"))]
    pub status: StepStatus,
    /// The names of the steps that it waits for.
    pub after: Vec<Name>,
    /// The id of the child saga. `None` unless the step is a [child saga](crate::saga::StepBuilder::child) that has begun.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialised::optional_id"))]
    pub child: Option<SagaId>,
    /// The last text of the log about the step.
    pub note: Option<String>,
    /// The times, attempts and last error of the step, by the store's clock.
    pub history: StepHistory,
}

impl Tree {
    pub(super) fn new<P>(definition: Name, plan: &Plan, state: &State, record: &Record<P>) -> Self {
        let entries = &record.entries;
        let name = |number: &u16| plan.steps.get(usize::from(*number)).map(|step| step.name);
        let about = |number: usize| {
            let own =
                |entry: &&Entry<P>| usize::from(entry.step()) == number && !is_whole(entry.kind());
            entries.iter().rev().find(own).and_then(Entry::note).map(str::to_owned)
        };
        let histories = Histories::of(plan.steps.len(), entries, &record.times).into_steps();
        let steps = plan.steps.iter().zip(&state.steps).zip(histories).enumerate();
        let steps = steps.map(|(number, ((plan, step), history))| TreeStep {
            name: plan.name,
            status: StepStatus::of(*step),
            after: plan.parents.iter().filter_map(name).collect(),
            child: (plan.runs_child && *step != Step::Pending)
                .then(|| child::id_of(record.id, plan.name.as_str())),
            note: about(number)
                .filter(|_| !matches!(step, Step::Pending | Step::Acting | Step::Waiting)),
            history,
        });
        let waits = record.status == Status::Waiting;
        let status = if waits { record.status } else { state.status() };
        Self {
            id: record.id,
            definition,
            status,
            parent: Parent::of(entries).map(|parent| SagaId::new(parent.saga)),
            until: until(record),
            signals: waits_for(plan, state),
            reason: Reasons::of(entries).at(status).map(|reason| reason.as_ref().to_owned()),
            created_at: record.created_at,
            steps: steps.collect(),
        }
    }
}

/// Returns the end of a wait; `None` if it is so far away that the saga waits without a limit.
fn until<P>(record: &Record<P>) -> Option<Duration> {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    let latest = record.times.last().copied().flatten().or(record.created_at).unwrap_or_default();
    let is_limited = |due_at: &Duration| due_at.saturating_sub(latest) < CENTURY;
    record.due_at.filter(|_| record.status == Status::Waiting).filter(is_limited)
}

/// Returns the names of the signals for which steps wait.
fn waits_for(plan: &Plan, state: &State) -> Vec<Name> {
    let steps = plan.steps.iter().zip(&state.steps);
    let waits = steps.filter(|(plan, step)| **step == Step::Waiting && plan.takes_signal());
    waits.map(|(plan, _)| plan.name).collect()
}

/// Whether an entry is about the whole saga.
fn is_whole(kind: EntryKind) -> bool {
    matches!(
        kind,
        EntryKind::Unwinding
            | EntryKind::Stuck
            | EntryKind::Completed
            | EntryKind::Compensated
            | EntryKind::ChildOf
            | EntryKind::Held
            | EntryKind::Committed
    )
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.definition, self.id, self.status.as_str())?;
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        if let Some(parent) = self.parent {
            write!(f, ", child of {parent}")?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            let branch = if number + 1 == self.steps.len() { "└─" } else { "├─" };
            write!(f, "\n{branch} {}: {}", step.name, step.status.as_str())?;
            if self.signals.contains(&step.name) {
                f.write_str(" for its signal")?;
            }
            if let Some(child) = step.child {
                write!(f, ", child {child}")?;
            }
            if let Some((first, rest)) = step.after.split_first() {
                write!(f, ", after {first}")?;
                rest.iter().try_for_each(|name| write!(f, " and {name}"))?;
            }
            let attempts = step.history.attempts.max(step.history.undo_attempts);
            if attempts > 1 {
                write!(f, ", {attempts} attempts")?;
            }
            if let Some(note) = &step.note {
                write!(f, " ({note})")?;
            }
        }
        Ok(())
    }
}

/// The counters of an executor since it was created.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// Sagas started here, without the sagas taken over.
    pub started: u64,
    /// Sagas resumed here: taken over from a worker that crashed, or continued by an operator's
    /// decision.
    pub resumed: u64,
    /// Sagas that continued here after a wait.
    pub woken: u64,
    /// Signals that sagas took here.
    pub signalled: u64,
    /// Sagas that completed.
    pub completed: u64,
    /// Sagas that were compensated.
    pub compensated: u64,
    /// Sagas that got stuck. A saga counts each time.
    pub stuck: u64,
    /// Sagas that another worker took over.
    pub fenced: u64,
    /// Actions that were done.
    pub steps_executed: u64,
    /// Actions that failed or stayed in doubt.
    pub steps_failed: u64,
    /// Undos that were done. A step without an undo is not counted.
    pub compensations_executed: u64,
    /// Undos that failed after all their attempts.
    pub compensations_failed: u64,
    /// Operations of the store that failed.
    pub store_failed: u64,
    /// Sagas that run here now.
    pub active: u64,
}
