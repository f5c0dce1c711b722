//! [`Builder`] and [`StepBuilder`]: build a definition from its steps.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{Format, InMemory, Name};

use crate::saga::define::definition::{Definition, Inner};
use crate::saga::define::needs::{Needs, StepHandle, StepRef};
use crate::saga::define::rules::{Hint, Rules};
use crate::saga::define::step::StepCode;
use crate::saga::model::invalid::InvalidDefinition;
use crate::saga::model::plan::{Kind, OnCrash, Plan, StepPlan};
use crate::saga::model::retry::Retry;
use crate::setters::setters;

/// A builder of a [`Definition`], to which its steps are added.
///
/// Steps run one after the other, in the order in which they are added. Exceptions are the steps of
/// a [`parallel`](Self::parallel) group and steps that name their predecessors with
/// [`after`](StepBuilder::after). A handle can only name a step that was added before, and a step
/// sees exactly the outputs that it declares.
#[must_use]
pub struct Builder<I, F: Format = InMemory> {
    id: u64,
    name: Name,
    version: u32,
    codec: F,
    max_concurrent: usize,
    same_input: Option<fn(&I, &I) -> bool>,
    pub(in crate::saga) can_be_child: bool,
    drafts: Vec<(StepPlan, StepCode<I, F>)>,
    /// The steps that the next step in sequence waits for.
    frontier: Vec<u16>,
    /// Inside a parallel group: the steps that the group waits for, and its own steps.
    group: Option<Group>,
    /// The first error.
    invalid: Option<InvalidDefinition>,
}

struct Group {
    after: Vec<u16>,
    members: Vec<u16>,
}

impl<I> Builder<I> {
    pub(in crate::saga) fn new(name: Name, version: u32) -> Self {
        Self {
            id: next_id(),
            name,
            version,
            codec: InMemory,
            max_concurrent: 16,
            same_input: None,
            can_be_child: false,
            drafts: Vec::new(),
            frontier: Vec::new(),
            group: None,
            invalid: None,
        }
    }

    /// Sets the codec of payloads. Default: [`InMemory`]. Call this before the first step.
    pub fn codec<F: Format>(self, codec: F) -> Builder<I, F> {
        Builder {
            id: self.id,
            name: self.name,
            version: self.version,
            codec,
            max_concurrent: self.max_concurrent,
            same_input: self.same_input,
            can_be_child: self.can_be_child,
            drafts: Vec::new(),
            frontier: Vec::new(),
            group: None,
            invalid: self.invalid,
        }
    }
}

impl<I: Send + Sync + 'static, F: Format> Builder<I, F> {
    /// Sets how many steps of one saga run concurrently. Default: 16. At least 1.
    pub fn max_concurrent(mut self, max: usize) -> Self {
        self.max_concurrent = max;
        self
    }

    /// Compares inputs by `PartialEq` when a caller starts a known id again.
    ///
    /// Default: the encoded inputs are compared. The [`InMemory`] codec encodes nothing, so it
    /// recognises only equal numbers, texts and bytes. See
    /// [`Executor::start_as`](crate::saga::Executor::start_as).
    pub fn compare_inputs(mut self) -> Self
    where
        I: PartialEq,
    {
        self.same_input = Some(|one, other| one == other);
        self
    }

    /// Begins a step. [`ActionBuilder::add`](crate::saga::ActionBuilder::add) adds it to the
    /// definition.
    pub fn step(&mut self, name: impl Into<Name>) -> StepBuilder<'_, I, F, ()> {
        let plan = StepPlan { name: name.into(), ..StepPlan::default() };
        StepBuilder { builder: self, plan, after: None, needs: (), rules: Rules::default() }
    }

    /// Adds a group of steps that run concurrently. The next step waits for all steps that `add`
    /// adds.
    pub fn parallel<T>(&mut self, add: impl FnOnce(&mut Self) -> T) -> T {
        let after = self.frontier.clone();
        let outer = self.group.replace(Group { after, members: Vec::new() });
        let handles = add(self);
        let members = match std::mem::replace(&mut self.group, outer) {
            Some(group) => group.members,
            None => Vec::new(),
        };
        if !members.is_empty() {
            self.came(members);
        }
        handles
    }

    /// Makes `later` wait for `earlier`, in addition to the other steps that `later` waits for.
    pub fn order(&mut self, earlier: impl Into<StepRef>, later: impl Into<StepRef>) -> &mut Self {
        let (earlier, later) = (earlier.into(), later.into());
        if let Some(number) = self.own(later) {
            let name = self.drafts.get(usize::from(number)).map(|(plan, _)| plan.name);
            self.depend(name.unwrap_or_default(), number, [earlier]);
        }
        self
    }

    /// Checks the steps and completes the definition.
    ///
    /// # Errors
    /// Returns the first problem of the definition as an [`InvalidDefinition`]. Examples are two steps
    /// of one name, steps that wait for each other, and kinds that leave no way back.
    pub fn build(self) -> Result<Definition<I, F>, InvalidDefinition> {
        if let Some(invalid) = self.invalid {
            return Err(invalid);
        }
        let (plans, steps) = self.drafts.into_iter().unzip();
        let plan = Plan::new(self.name, plans, self.max_concurrent)?;
        let plan = if self.can_be_child { plan.can_be_child() } else { plan };
        let shape = crate::saga::model::drawing::shape(&plan);
        let Self { name, version, codec, same_input, .. } = self;
        let inner = Inner { name, version, codec, plan, steps, shape, same_input };
        Ok(Definition { inner: Arc::new(inner) })
    }

    pub(in crate::saga) fn name(&self) -> Name {
        self.name
    }

    /// Keeps the first error, which [`build`](Self::build) returns.
    pub(in crate::saga) fn refuse(&mut self, checked: Result<(), InvalidDefinition>) {
        if let Err(invalid) = checked {
            self.invalid.get_or_insert(invalid);
        }
    }

    /// Makes the next step in sequence wait for `steps`.
    fn came(&mut self, steps: Vec<u16>) {
        match &mut self.group {
            Some(group) => group.members.extend(steps),
            None => self.frontier = steps,
        }
    }

    fn own(&mut self, step: StepRef) -> Option<u16> {
        if step.builder == self.id {
            return Some(step.number);
        }
        let unknown =
            InvalidDefinition::UnknownDependency { saga: self.name, step: Name::from("?") };
        self.invalid.get_or_insert(unknown);
        None
    }

    /// Makes step `number`, called `name`, wait for `parents`.
    fn depend(&mut self, name: Name, number: u16, parents: impl IntoIterator<Item = StepRef>) {
        for parent in parents {
            if parent.builder != self.id {
                let unknown = InvalidDefinition::UnknownDependency { saga: self.name, step: name };
                self.invalid.get_or_insert(unknown);
            } else if let Some((plan, _)) = self.drafts.get_mut(usize::from(number)) {
                if !plan.parents.contains(&parent.number) {
                    plan.parents.push(parent.number);
                }
            }
        }
    }

    pub(in crate::saga) fn add<T>(
        &mut self,
        plan: StepPlan,
        code: StepCode<I, F>,
        needs: Vec<StepRef>,
        after: Option<Vec<StepRef>>,
    ) -> StepHandle<T> {
        let name = plan.name;
        self.refuse(code.rules.check(self.name, &plan));
        let number = self.drafts.len() as u16;
        if self.drafts.len() >= usize::from(u16::MAX) {
            let steps = self.drafts.len() + 1;
            self.invalid.get_or_insert(InvalidDefinition::TooManySteps { saga: self.name, steps });
        }
        self.drafts.push((plan, code));
        let builder = self.id;
        self.depend(name, number, needs);
        match after {
            Some(after) => self.depend(name, number, after),
            None => {
                let before = match &self.group {
                    Some(group) => group.after.clone(),
                    None => self.frontier.clone(),
                };
                self.depend(
                    name,
                    number,
                    before.into_iter().map(|number| StepRef { builder, number }),
                );
            }
        }
        self.came(vec![number]);
        StepHandle::new(StepRef { builder, number }, name)
    }
}

impl<I, F: Format> fmt::Debug for Builder<I, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("steps", &self.drafts.len())
            .finish_non_exhaustive()
    }
}

/// A step that is not added yet. It needs an [`action`](Self::action), a [`child`](Self::child), or something to wait
/// for.
#[must_use = "a step is added by `add`"]
pub struct StepBuilder<'b, I, F: Format, N> {
    pub(in crate::saga) builder: &'b mut Builder<I, F>,
    pub(in crate::saga) plan: StepPlan,
    /// The steps that it waits for; `None` for the steps before it in sequence.
    pub(in crate::saga) after: Option<Vec<StepRef>>,
    pub(in crate::saga) needs: N,
    pub(in crate::saga) rules: Rules,
}

impl<'b, I, F: Format, N> StepBuilder<'b, I, F, N> {
    /// Sets the outputs that the functions of the step receive. The step waits for these outputs.
    /// Default: none.
    pub fn needs<M: Needs>(self, needs: M) -> StepBuilder<'b, I, F, M> {
        let Self { builder, plan, after, rules, .. } = self;
        StepBuilder { builder, plan, after, needs, rules }
    }

    /// Makes the step wait for `step` instead of the steps added before it. Repeated calls add
    /// steps.
    pub fn after(mut self, step: impl Into<StepRef>) -> Self {
        self.after.get_or_insert_default().push(step.into());
        self
    }

    /// Makes the step run in parallel with the steps added before it. It waits only for the outputs
    /// that it [needs](Self::needs).
    pub fn parallel(mut self) -> Self {
        self.after.get_or_insert_default();
        self
    }

    setters! {
        /// Sets whether the step can be undone, is the point of no return, or comes after it. Default:
        /// [`Kind::Compensatable`].
        kind(kind: Kind) sets plan.kind;

        /// Sets how the saga continues after a crash left the action without an outcome. Default:
        /// [`OnCrash::RunAgain`].
        on_crash(on_crash: OnCrash) sets plan.on_crash;

        /// Sets how long one attempt of the action may take, with all its layers. Default: no limit.
        /// [`build`](Builder::build) refuses zero.
        ///
        /// An attempt that takes longer is in doubt, unless no call had reached the service. The limit
        /// does not apply to the undo.
        timeout(timeout: Duration) sets rules.timeout => Some(timeout);

        /// Sets how long one attempt of the undo may take, with all its layers. Default: no limit.
        /// [`build`](Builder::build) refuses zero.
        ///
        /// An attempt that takes longer has failed, and the undo is attempted again according to
        /// [`undo_retry`](Self::undo_retry). After the last attempt the saga is stuck.
        undo_timeout(timeout: Duration) sets rules.undo_timeout => Some(timeout);
    }

    /// Sets how many times the undo of the step is attempted before the saga is stuck, and the wait
    /// between two attempts. Default: [`Config::undo_retry`](crate::saga::Config::undo_retry). At
    /// least 1 attempt. [`build`](Builder::build) refuses it for a step without an undo.
    ///
    /// Executors with different values resume each other's sagas.
    pub fn undo_retry(mut self, attempts: u32, backoff: Backoff) -> Self {
        self.rules.undo_retry = Some(Retry::new(attempts, backoff));
        self
    }

    /// Sets how many times the action of a pivot in doubt, or of a failed retryable step, is attempted
    /// before the saga is stuck, and the wait between two attempts. Default:
    /// [`Config::run_again`](crate::saga::Config::run_again). At least 1 attempt.
    /// [`build`](Builder::build) refuses it for a compensatable step: put a retry among its layers.
    ///
    /// Executors with different values resume each other's sagas.
    pub fn run_again(mut self, attempts: u32, backoff: Backoff) -> Self {
        self.rules.run_again = Some(Retry::new(attempts, backoff));
        self
    }

    /// Sets a function that reads from the error of an attempt how long the service asks callers to
    /// wait. Default: the [`retry_after`](buttress::Error::retry_after) of a refusal of a layer.
    ///
    /// The saga waits for the hint or for the backoff, whichever is longer, before the next attempt
    /// of an undo, of a pivot in doubt or of a retryable step. A hint counts for up to 5 minutes.
    /// The function receives the error of the layers, for action and undo; `downcast_ref` finds its
    /// type. A panic of the function counts as no hint.
    pub fn hint(
        mut self,
        hint: impl Fn(&(dyn Error + 'static)) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.rules.hint = Some(Hint::new(hint));
        self
    }
}

impl<I, F: Format, N> fmt::Debug for StepBuilder<'_, I, F, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepBuilder").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Returns an id that distinguishes the handles of different builders.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
