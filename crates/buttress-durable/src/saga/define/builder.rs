//! [`Builder`] and [`StepBuilder`]: put the steps of a definition together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buttress::{Format, InMemory, Name};

use crate::saga::define::definition::{Definition, Inner};
use crate::saga::define::needs::{Needs, StepHandle, StepRef};
use crate::saga::define::step::StepCode;
use crate::saga::model::plan::{InvalidDefinition, Kind, OnCrash, Plan, StepPlan};

/// Puts the steps of a [`Definition`] together.
///
/// Steps come one after the other, in the order in which they are added, unless they stand in a
/// [`parallel`](Self::parallel) group or say what they come [`after`](StepBuilder::after). A handle can
/// only name a step that was added before, so a step sees exactly what it declares that it needs.
#[must_use]
pub struct Builder<I, F: Format = InMemory> {
    id: u64,
    name: Name,
    version: u32,
    codec: F,
    max_concurrent: usize,
    same_input: Option<fn(&I, &I) -> bool>,
    drafts: Vec<(StepPlan, StepCode<I, F>)>,
    /// What the next step in sequence comes after.
    frontier: Vec<u16>,
    /// Inside a parallel group: what it comes after, and its steps so far.
    group: Option<Group>,
    /// The first thing that was wrong.
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
            drafts: Vec::new(),
            frontier: Vec::new(),
            group: None,
            invalid: None,
        }
    }

    /// Encodes payloads with `codec`. Before the first step.
    pub fn codec<F: Format>(self, codec: F) -> Builder<I, F> {
        Builder {
            id: self.id,
            name: self.name,
            version: self.version,
            codec,
            max_concurrent: self.max_concurrent,
            same_input: self.same_input,
            drafts: Vec::new(),
            frontier: Vec::new(),
            group: None,
            invalid: self.invalid,
        }
    }
}

impl<I: Send + Sync + 'static, F: Format> Builder<I, F> {
    /// How many steps of one saga may be under way at once. Defaults to 16.
    pub fn max_concurrent(mut self, max: usize) -> Self {
        self.max_concurrent = max;
        self
    }

    /// Compares inputs by `PartialEq` when a saga is started again under an id that is known: see
    /// [`Executor::start_as`](crate::saga::Executor::start_as). Default: the encoded inputs are compared. The
    /// [`InMemory`] codec encodes nothing, so it knows only numbers, texts and bytes as equal.
    pub fn compare_inputs(mut self) -> Self
    where
        I: PartialEq,
    {
        self.same_input = Some(|one, other| one == other);
        self
    }

    /// Begins a step. It is part of the definition once [`ActionBuilder::add`](crate::saga::ActionBuilder::add) is called.
    pub fn step(&mut self, name: impl Into<Name>) -> StepBuilder<'_, I, F, ()> {
        let plan = StepPlan { name: name.into(), ..StepPlan::default() };
        StepBuilder {
            builder: self,
            plan,
            after: None,
            needs: (),
            timeout: None,
            undo_timeout: None,
        }
    }

    /// The steps that `add` adds run beside each other. The next step comes after all of them.
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

    /// `later` comes after `earlier`, whatever else they come after.
    pub fn order(&mut self, earlier: impl Into<StepRef>, later: impl Into<StepRef>) -> &mut Self {
        let (earlier, later) = (earlier.into(), later.into());
        if let Some(number) = self.own(later) {
            let name = self.drafts.get(usize::from(number)).map(|(plan, _)| plan.name);
            self.depend(name.unwrap_or_default(), number, [earlier]);
        }
        self
    }

    /// Checks the steps and closes the definition.
    ///
    /// # Errors
    /// No steps, two of one name, a dependency on another definition's step, steps that wait for each
    /// other, kinds in an order that leaves no way back: see [`InvalidDefinition`].
    pub fn build(self) -> Result<Definition<I, F>, InvalidDefinition> {
        if let Some(invalid) = self.invalid {
            return Err(invalid);
        }
        let (plans, steps) = self.drafts.into_iter().unzip();
        let plan = Plan::new(self.name, plans, self.max_concurrent)?;
        let shape = crate::saga::model::drawing::shape(&plan);
        let Self { name, version, codec, same_input, .. } = self;
        let inner = Inner { name, version, codec, plan, steps, shape, same_input };
        Ok(Definition { inner: Arc::new(inner) })
    }

    /// The steps in sequence go on after `steps`.
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

    /// Step `number`, called `name`, comes after `parents`.
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
        for (setting, limit) in [("timeout", code.timeout), ("undo_timeout", code.undo_timeout)] {
            if limit.is_some_and(|limit| limit.is_zero()) {
                let zero = InvalidDefinition::ZeroTimeout { saga: self.name, step: name, setting };
                self.invalid.get_or_insert(zero);
            }
        }
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

/// A step about to be added. It needs an [`action`](Self::action).
#[must_use = "a step is added by `add`"]
pub struct StepBuilder<'b, I, F: Format, N> {
    pub(in crate::saga) builder: &'b mut Builder<I, F>,
    pub(in crate::saga) plan: StepPlan,
    /// What it comes after; `None` for the steps before it in sequence.
    pub(in crate::saga) after: Option<Vec<StepRef>>,
    pub(in crate::saga) needs: N,
    pub(in crate::saga) timeout: Option<Duration>,
    pub(in crate::saga) undo_timeout: Option<Duration>,
}

impl<'b, I, F: Format, N> StepBuilder<'b, I, F, N> {
    /// The outputs that its functions get, of steps that it comes after by that. Defaults to none.
    pub fn needs<M: Needs>(self, needs: M) -> StepBuilder<'b, I, F, M> {
        let Self { builder, plan, after, timeout, undo_timeout, .. } = self;
        StepBuilder { builder, plan, after, needs, timeout, undo_timeout }
    }

    /// It comes after `step` instead of the steps added before it. Can be said more than once.
    pub fn after(mut self, step: impl Into<StepRef>) -> Self {
        self.after.get_or_insert_default().push(step.into());
        self
    }

    /// It waits for nothing but what it [needs](Self::needs).
    pub fn at_once(mut self) -> Self {
        self.after.get_or_insert_default();
        self
    }

    /// Whether it can be undone, is the point of no return, or comes after that. Defaults to
    /// [`Kind::Compensatable`].
    pub fn kind(mut self, kind: Kind) -> Self {
        self.plan.kind = kind;
        self
    }

    /// What to do with it if a crash leaves it without an outcome. Defaults to [`OnCrash::RunAgain`].
    pub fn on_crash(mut self, on_crash: OnCrash) -> Self {
        self.plan.on_crash = on_crash;
        self
    }

    /// Sets how long one attempt of the action may take, with all its layers. Beyond it the outcome is in
    /// doubt, unless nothing had left for the service. It does not limit the undo. Default: no limit; zero is
    /// refused by [`build`](Builder::build).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how long one attempt of the undo may take, with all its layers. An attempt beyond it has failed,
    /// and the undo is attempted again as [`Config::undo_retry`](crate::saga::Config::undo_retry) says. Default: no
    /// limit, because an undo that is cut short too often leaves the saga stuck; zero is refused by
    /// [`build`](Builder::build).
    pub fn undo_timeout(mut self, timeout: Duration) -> Self {
        self.undo_timeout = Some(timeout);
        self
    }
}

impl<I, F: Format, N> fmt::Debug for StepBuilder<'_, I, F, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepBuilder").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// Tells the handles of one builder from those of another.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
