//! The plan of a saga: the facts about a definition that the state machine needs.

use std::collections::HashSet;

use buttress::Name;

use crate::saga::model::invalid::InvalidDefinition;

/// The meaning of a step's failure for the saga.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Kind {
    /// The effect of the step can be undone. If it or a later step fails, the saga unwinds. The
    /// default.
    #[default]
    Compensatable,
    /// The point of no return. Once the step is done, the saga completes. At most one step is a
    /// pivot.
    Pivot,
    /// The step comes after the point of no return. The saga attempts it until it is done.
    Retryable,
}

/// The handling of an action that a crash left without an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnCrash {
    /// Run the action again with the same key. The default: the service recognises the key.
    #[default]
    RunAgain,
    /// Treat the action as in doubt, undo it, and unwind. For a compensatable step whose service
    /// knows no keys.
    Undo,
}

/// What a step waits for that calls no service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::saga) enum Wait {
    /// A time.
    Time,
    /// A signal. Without it the step fails at its deadline.
    Signal,
    /// A signal. Without it the step is done at its deadline.
    OptionalSignal,
}

impl Wait {
    pub(in crate::saga) const fn is_for_signal(self) -> bool {
        matches!(self, Self::Signal | Self::OptionalSignal)
    }
}

/// The facts about a step that the state machine needs.
#[derive(Clone, Debug, Default)]
pub(in crate::saga) struct StepPlan {
    pub name: Name,
    pub kind: Kind,
    pub on_crash: OnCrash,
    pub has_undo: bool,
    /// What the step waits for. Such a step calls no service.
    pub waits: Option<Wait>,
    /// Whether the action of the step is a child saga.
    pub runs_child: bool,
    /// The steps that must be done before this one.
    pub parents: Vec<u16>,
    /// The steps that wait for this one.
    pub children: Vec<u16>,
}

impl StepPlan {
    /// Whether the step waits for a signal, whose name is the name of the step.
    pub(in crate::saga) fn takes_signal(&self) -> bool {
        self.waits.is_some_and(Wait::is_for_signal)
    }

    /// Whether the step holds its child saga until all steps of the saga are done.
    pub(in crate::saga) fn holds_child(&self) -> bool {
        self.runs_child && self.kind == Kind::Compensatable
    }
}

/// The facts about a definition that the state machine needs.
#[derive(Clone, Debug)]
pub(in crate::saga) struct Plan {
    pub steps: Vec<StepPlan>,
    /// The numbers of all steps, each after all steps that must be done before it.
    pub order: Vec<u16>,
    /// How many steps of one saga run concurrently.
    pub max_concurrent: usize,
    /// Whether sagas may wait without a worker: for a time, for a signal, or for their parent.
    pub has_waits: bool,
    /// Whether a step waits for a signal.
    pub has_signals: bool,
    /// Whether a step runs a child saga.
    pub has_children: bool,
    /// Whether a step holds its child saga until all steps are done.
    pub holds_children: bool,
    /// Whether the sagas can be children.
    pub can_be_child: bool,
}

impl Plan {
    /// Checks the steps, and fills in their `children`.
    pub(in crate::saga) fn new(
        saga: Name,
        mut steps: Vec<StepPlan>,
        max_concurrent: usize,
    ) -> Result<Self, InvalidDefinition> {
        if steps.is_empty() {
            return Err(InvalidDefinition::Empty { saga });
        }
        if steps.len() > usize::from(u16::MAX) {
            return Err(InvalidDefinition::TooManySteps { saga, steps: steps.len() });
        }
        if max_concurrent == 0 {
            return Err(InvalidDefinition::NoConcurrency { saga });
        }
        let names = std::iter::once(saga).chain(steps.iter().map(|step| step.name));
        for name in names.map(|name| name.as_str().to_owned()) {
            if name.is_empty() || name.contains(char::is_control) {
                return Err(InvalidDefinition::UnusableName { saga: saga.to_string(), name });
            }
        }
        let mut names = HashSet::new();
        for step in &steps {
            if !names.insert(step.name) {
                return Err(InvalidDefinition::Duplicate { saga, step: step.name });
            }
            if step.kind != Kind::Compensatable && step.has_undo {
                return Err(InvalidDefinition::UselessUndo { saga, step: step.name });
            }
        }
        for number in 0..steps.len() {
            let parents = steps.get(number).map(|step| step.parents.clone()).unwrap_or_default();
            for parent in parents {
                if let Some(parent) = steps.get_mut(usize::from(parent)) {
                    parent.children.push(number as u16);
                }
            }
        }
        let has_waits = steps.iter().any(|step| step.waits.is_some());
        let has_signals = steps.iter().any(StepPlan::takes_signal);
        let has_children = steps.iter().any(|step| step.runs_child);
        let holds_children = steps.iter().any(StepPlan::holds_child);
        let mut plan = Self {
            steps,
            order: Vec::new(),
            max_concurrent,
            has_waits,
            has_signals,
            has_children,
            holds_children,
            can_be_child: false,
        };
        let (order, ancestors) = plan.ancestors(saga)?;
        plan.order = order;
        plan.check_kinds(saga, &ancestors)?;
        Ok(plan)
    }

    /// Declares that the sagas can be children.
    pub(in crate::saga) fn can_be_child(mut self) -> Self {
        (self.has_waits, self.can_be_child) = (true, true);
        self
    }

    /// Returns the order of the steps, and for each step the steps that are certainly done before
    /// it begins.
    fn ancestors(&self, saga: Name) -> Result<(Vec<u16>, Vec<HashSet<u16>>), InvalidDefinition> {
        // Kahn's algorithm: a step is reached when all of its parents are.
        let mut ancestors = vec![HashSet::new(); self.steps.len()];
        let mut missing: Vec<usize> = self.steps.iter().map(|step| step.parents.len()).collect();
        let roots = (0u16..).zip(&missing).filter(|(_, missing)| **missing == 0);
        let mut reached: Vec<u16> = roots.map(|(number, _)| number).collect();
        let mut next = 0;
        while let Some(number) = reached.get(next).copied() {
            next += 1;
            let Some(step) = self.steps.get(usize::from(number)) else { continue };
            let mut above = ancestors.get(usize::from(number)).cloned().unwrap_or_default();
            above.insert(number);
            for child in &step.children {
                if let Some(known) = ancestors.get_mut(usize::from(*child)) {
                    known.extend(&above);
                }
                if let Some(missing) = missing.get_mut(usize::from(*child)) {
                    *missing -= 1;
                    if *missing == 0 {
                        reached.push(*child);
                    }
                }
            }
        }
        match self.steps.iter().zip(&missing).find(|(_, missing)| **missing > 0) {
            Some((step, _)) => Err(InvalidDefinition::Cycle { saga, step: step.name }),
            None => Ok((reached, ancestors)),
        }
    }

    fn check_kinds(&self, saga: Name, ancestors: &[HashSet<u16>]) -> Result<(), InvalidDefinition> {
        let of = |kind: Kind| {
            let numbered = (0u16..).zip(&self.steps).zip(ancestors);
            // A wait has no effect, so it may come before and after the point of no return.
            numbered.filter(move |((_, step), _)| step.kind == kind && step.waits.is_none())
        };
        let mut pivots = of(Kind::Pivot);
        let pivot = pivots.next();
        if let (Some(((_, first), _)), Some(((_, second), _))) = (&pivot, pivots.next()) {
            let (first, second) = (first.name, second.name);
            return Err(InvalidDefinition::TwoPivots { saga, first, second });
        }
        if let Some(((number, pivot), _)) = pivot {
            let early = of(Kind::Retryable).find(|(_, above)| !above.contains(&number));
            if let Some(((_, step), _)) = early {
                let (step, pivot) = (step.name, pivot.name);
                return Err(InvalidDefinition::BeforePivot { saga, step, pivot });
            }
        }
        for ((_, last), above) in of(Kind::Pivot).chain(of(Kind::Retryable)) {
            let late = of(Kind::Compensatable).find(|((number, _), _)| !above.contains(number));
            if let Some(((_, step), _)) = late {
                let (step, before) = (step.name, last.name);
                return Err(InvalidDefinition::Misplaced { saga, step, before });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
