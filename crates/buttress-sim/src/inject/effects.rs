use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buttress::Name;
use buttress_durable::saga::{Direction, SagaId, StepKey, StepStatus};

use super::participant::{Participant, Recording};

/// The effects of the steps of sagas, by the key of their calls. Cheap to clone; clones are the same
/// record, and outlive the simulated process.
///
/// [`participant`](Self::participant) makes a service for steps that recognises repeated calls.
/// [`around`](Self::around) records the effects of your own service. [`record`](Self::record) records an
/// effect of any code.
#[derive(Clone, Default)]
pub struct Effects {
    book: Arc<Mutex<Book>>,
}

/// The effects of all steps, and what participants remember.
#[derive(Debug, Default)]
struct Book {
    steps: BTreeMap<(SagaId, Name), Step>,
    ignored: BTreeSet<Name>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Step {
    count: Count,
    /// An undo came before its action, which must not have an effect any more.
    overtaken: bool,
}

/// How many times the action and the undo of a step had an effect.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Count {
    /// The effects of the action.
    pub actions: u64,
    /// The effects of the undo.
    pub undos: u64,
}

impl Count {
    const fn new(actions: u64, undos: u64) -> Self {
        Self { actions, undos }
    }

    /// Whether the effect of the action stands once: the action had it once, and no undo reverted it.
    #[must_use]
    pub const fn stands_once(self) -> bool {
        matches!(self, Self { actions: 1, undos: 0 })
    }

    /// Whether no effect is left: the action had none, or it had one and the undo reverted it once.
    #[must_use]
    pub const fn is_clean(self) -> bool {
        matches!(self, Self { actions: 0, undos: 0 } | Self { actions: 1, undos: 1 })
    }

    /// Whether action and undo had their effect at most once, and the undo had none without the action.
    #[must_use]
    pub const fn at_most_once(self) -> bool {
        self.actions <= 1 && self.undos <= self.actions
    }

    /// Whether the count is possible for a step with this status.
    fn agrees_with(self, status: StepStatus) -> bool {
        match status {
            StepStatus::Pending | StepStatus::Waiting => self == Self::default(),
            StepStatus::Done => self.stands_once(),
            StepStatus::Failed | StepStatus::Undone => self.is_clean(),
            _ => self.at_most_once(),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} actions and {} undos", self.actions, self.undos)
    }
}

/// What a participant does about a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Handled {
    /// The call has its effect.
    Effect,
    /// An earlier call with the key had the effect.
    Known,
    /// The undo of the step came before its action. The action is refused.
    Overtaken,
}

impl Book {
    /// Decides about a call as a participant should, and records its effect.
    fn handle(&mut self, saga: SagaId, step: Name, direction: Direction) -> Handled {
        let step = self.steps.entry((saga, step)).or_default();
        match direction {
            Direction::Action if step.overtaken => Handled::Overtaken,
            Direction::Action if step.count.actions > 0 => Handled::Known,
            Direction::Undo if step.count.actions == 0 => {
                step.overtaken = true;
                Handled::Known
            }
            Direction::Undo if step.count.undos > 0 => Handled::Known,
            direction => {
                step.add(direction);
                Handled::Effect
            }
        }
    }

    fn disagreement(&self, saga: SagaId, step: Name, status: StepStatus) -> Option<String> {
        let count = self.count(saga, step);
        if self.ignored.contains(&step) || count.agrees_with(status) {
            return None;
        }
        Some(format!("saga {saga}, step \"{step}\" is {}: {count}", status.as_str()))
    }

    fn count(&self, saga: SagaId, step: Name) -> Count {
        self.steps.get(&(saga, step)).map(|step| step.count).unwrap_or_default()
    }
}

impl Step {
    fn add(&mut self, direction: Direction) {
        match direction {
            Direction::Action => self.count.actions += 1,
            Direction::Undo => self.count.undos += 1,
        }
    }
}

impl Effects {
    /// Creates an empty record.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a service for the actions and undos of steps, which records their effects. `answer` makes
    /// the response from the request.
    ///
    /// The service recognises repeated calls by their key. A repetition gets the response again, and has
    /// no effect. An undo that comes before its action has no effect, and the service refuses the action
    /// that comes later.
    pub fn participant<A>(&self, answer: A) -> Participant<A> {
        Participant::new(self.clone(), answer)
    }

    /// Records an effect for each call that `service` answers without an error.
    ///
    /// A service that recognises repeated calls would be recorded too often. It should call
    /// [`record`](Self::record) where it has its effect.
    pub fn around<S>(&self, service: S) -> Recording<S> {
        Recording::new(self.clone(), service)
    }

    /// Records that a call with `key` had its effect.
    pub fn record(&self, key: StepKey) {
        let mut book = self.lock();
        book.steps.entry((key.saga(), key.step())).or_default().add(key.direction());
    }

    /// Excludes `step` from [`check`](Self::check), because it has no effect that is recorded. A step
    /// that waits calls no service, for example.
    #[must_use]
    pub fn ignoring(self, step: impl Into<Name>) -> Self {
        self.lock().ignored.insert(step.into());
        self
    }

    pub(super) fn handle(&self, key: StepKey) -> Handled {
        self.lock().handle(key.saga(), key.step(), key.direction())
    }

    /// Returns how many times the action and the undo of a step had an effect.
    #[must_use]
    pub fn count(&self, saga: SagaId, step: impl Into<Name>) -> Count {
        self.lock().count(saga, step.into())
    }

    /// Compares the effects of a saga with the statuses of its steps:
    /// [`Report::steps`](buttress_durable::saga::Report::steps), or the steps of a
    /// [`Tree`](buttress_durable::saga::Tree).
    ///
    /// A done step had its effect exactly once, and no undo reverted it. A failed or an undone step leaves
    /// no effect. A step that has not begun had no effect. Every other step had its effects at most once.
    /// A step that is missing in `steps` had no effect.
    ///
    /// # Errors
    /// Returns all steps whose effects do not agree, one per line.
    pub fn check(
        &self,
        saga: SagaId,
        steps: impl IntoIterator<Item = (Name, StepStatus)>,
    ) -> Result<(), String> {
        let book = self.lock();
        let mut unknown: BTreeMap<Name, Count> = book
            .steps
            .iter()
            .filter(|((id, _), step)| *id == saga && step.count != Count::default())
            .map(|((_, step), state)| (*step, state.count))
            .collect();
        let mut wrong = Vec::new();
        for (step, status) in steps {
            unknown.remove(&step);
            wrong.extend(book.disagreement(saga, step, status));
        }
        wrong.extend(
            unknown.into_iter().map(|(step, count)| {
                format!("saga {saga} has no step \"{step}\", which had {count}")
            }),
        );
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// Asserts that the action of a step had its effect exactly once, and that no undo reverted it.
    ///
    /// # Panics
    /// If this is not so.
    #[track_caller]
    pub fn assert_once(&self, saga: SagaId, step: impl Into<Name>) {
        self.assert(saga, step.into(), "exactly one action, and no undo", Count::stands_once);
    }

    /// Asserts that action and undo of a step had their effect at most once.
    ///
    /// # Panics
    /// If this is not so.
    #[track_caller]
    pub fn assert_at_most_once(&self, saga: SagaId, step: impl Into<Name>) {
        self.assert(saga, step.into(), "at most one action and its undo", Count::at_most_once);
    }

    /// Asserts that the action of a step had its effect once, and that the undo reverted it once.
    ///
    /// # Panics
    /// If this is not so.
    #[track_caller]
    pub fn assert_undone(&self, saga: SagaId, step: impl Into<Name>) {
        let undone = |count| count == Count::new(1, 1);
        self.assert(saga, step.into(), "exactly one action, and its undo", undone);
    }

    /// Asserts that neither the action nor the undo of a step had an effect.
    ///
    /// # Panics
    /// If this is not so.
    #[track_caller]
    pub fn assert_never(&self, saga: SagaId, step: impl Into<Name>) {
        self.assert(saga, step.into(), "no effect", |count| count == Count::default());
    }

    #[track_caller]
    fn assert(&self, saga: SagaId, step: Name, wanted: &str, holds: impl FnOnce(Count) -> bool) {
        let count = self.count(saga, step);
        assert!(holds(count), "saga {saga}, step \"{step}\": wanted {wanted}, got {count}");
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effects").field("steps", &self.lock().steps.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SagaId = SagaId::new(1);

    #[test]
    fn a_participant_has_each_effect_once_and_refuses_an_action_after_its_undo() {
        use Direction::{Action, Undo};
        use Handled::{Effect, Known, Overtaken};
        for (calls, count) in [
            (vec![(Action, Effect), (Action, Known)], Count::new(1, 0)),
            (vec![(Action, Effect), (Undo, Effect), (Undo, Known)], Count::new(1, 1)),
            (vec![(Action, Effect), (Undo, Effect), (Action, Known)], Count::new(1, 1)),
            (vec![(Undo, Known), (Action, Overtaken), (Action, Overtaken)], Count::new(0, 0)),
            (vec![(Undo, Known), (Action, Overtaken), (Undo, Known)], Count::new(0, 0)),
        ] {
            let mut book = Book::default();
            for (direction, handled) in &calls {
                assert_eq!(book.handle(ID, "a".into(), *direction), *handled, "{calls:?}");
            }
            assert_eq!(book.count(ID, "a".into()), count, "{calls:?}");
        }
    }

    #[test]
    fn steps_and_sagas_have_separate_effects() {
        let mut book = Book::default();
        for (saga, step) in [(1, "a"), (1, "b"), (2, "a")] {
            let handled = book.handle(SagaId::new(saga), step.into(), Direction::Action);
            assert_eq!(handled, Handled::Effect);
        }
    }

    #[test]
    fn counts_agree_with_the_statuses_for_which_they_are_possible() {
        use StepStatus::{
            Acting, Done, Failed, InDoubt, Pending, UndoFailed, Undoing, Undone, Waiting,
        };
        let once = vec![(0, 0), (1, 0), (1, 1)];
        for (status, possible) in [
            (Pending, vec![(0, 0)]),
            (Waiting, vec![(0, 0)]),
            (Done, vec![(1, 0)]),
            (Failed, vec![(0, 0), (1, 1)]),
            (Undone, vec![(0, 0), (1, 1)]),
            (Acting, once.clone()),
            (InDoubt, once.clone()),
            (Undoing, once.clone()),
            (UndoFailed, once),
        ] {
            for (actions, undos) in (0..9).map(|both| (both / 3, both % 3)) {
                let agrees = Count::new(actions, undos).agrees_with(status);
                let wanted = possible.contains(&(actions, undos));
                assert_eq!(agrees, wanted, "{status:?}: {actions} {undos}");
            }
        }
    }

    #[test]
    fn an_assertion_names_the_step_and_its_count() {
        let effects = Effects::new();
        effects.lock().handle(ID, "a".into(), Direction::Action);
        effects.assert_once(ID, "a");
        effects.assert_at_most_once(ID, "a");
        effects.assert_never(ID, "b");
        let refused = |assert: fn(&Effects)| {
            let effects = effects.clone();
            let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| assert(&effects)));
            panic.unwrap_err().downcast_ref::<String>().cloned().unwrap()
        };
        let wanted = format!("saga {ID}, step \"a\": wanted no effect, got 1 actions and 0 undos");
        assert_eq!(refused(|effects| effects.assert_never(ID, "a")), wanted);
        refused(|effects| effects.assert_undone(ID, "a"));
        refused(|effects| effects.assert_once(ID, "b"));
        effects.lock().steps.entry((ID, "a".into())).or_default().count = Count::new(2, 0);
        refused(|effects| effects.assert_at_most_once(ID, "a"));
        refused(|effects| effects.assert_once(ID, "a"));
    }
}
