//! The plan of a saga: the facts about a definition that the state machine needs.

use buttress::{InvalidConfig, Name};
use std::collections::HashSet;

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

/// The reason why a definition is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDefinition {
    /// There are no steps.
    #[error("saga \"{saga}\": no steps, at least 1 is required")]
    Empty {
        /// The saga.
        saga: Name,
    },
    /// There are too many steps.
    #[error("saga \"{saga}\": {steps} steps, at most {} are allowed", u16::MAX)]
    TooManySteps {
        /// The saga.
        saga: Name,
        /// The number of steps.
        steps: usize,
    },
    /// The name of the saga or of a step is empty, or contains a control character.
    ///
    /// Names are part of the log and of keys, and must be read back unchanged.
    #[error("saga {saga:?}: the name {name:?} is empty or holds a control character")]
    UnusableName {
        /// The saga.
        saga: String,
        /// The invalid name.
        name: String,
    },
    /// Two steps have the same name, so their keys would be equal.
    #[error("saga \"{saga}\": two steps have the name \"{step}\"; give each step its own name")]
    Duplicate {
        /// The saga.
        saga: Name,
        /// The name of both steps.
        step: Name,
    },
    /// A step depends on a step of another definition.
    #[error("saga \"{saga}\": step \"{step}\" depends on a step of another definition")]
    UnknownDependency {
        /// The saga.
        saga: Name,
        /// The step with the dependency.
        step: Name,
    },
    /// Steps wait for each other in a circle.
    #[error("saga \"{saga}\": step \"{step}\" waits for itself; remove a dependency of the cycle")]
    Cycle {
        /// The saga.
        saga: Name,
        /// One of these steps.
        step: Name,
    },
    /// There is more than one pivot.
    #[error("saga \"{saga}\": \"{first}\" and \"{second}\" are pivots, at most 1 is allowed")]
    TwoPivots {
        /// The saga.
        saga: Name,
        /// The first pivot.
        first: Name,
        /// The second pivot.
        second: Name,
    },
    /// A compensatable step can run after the point of no return.
    #[error(
        "saga \"{saga}\": compensatable step \"{step}\" must come before \"{before}\", the point of no return"
    )]
    Misplaced {
        /// The saga.
        saga: Name,
        /// The compensatable step.
        step: Name,
        /// The pivot or retryable step.
        before: Name,
    },
    /// A retryable step can run before the pivot is done.
    #[error("saga \"{saga}\": retryable step \"{step}\" must come after the pivot \"{pivot}\"")]
    BeforePivot {
        /// The saga.
        saga: Name,
        /// The retryable step.
        step: Name,
        /// The pivot.
        pivot: Name,
    },
    /// A pivot or retryable step has an undo, which the saga would never call.
    #[error(
        "saga \"{saga}\": step \"{step}\" is a pivot or retryable and has an undo; remove the undo"
    )]
    UselessUndo {
        /// The saga.
        saga: Name,
        /// The step.
        step: Name,
    },
    /// A time limit of a step is zero, so every attempt would exceed it.
    #[error(
        "saga \"{saga}\": step \"{step}\": {setting} is 0 s, more than 0 s is wanted; leave it out for no limit"
    )]
    ZeroTimeout {
        /// The saga.
        saga: Name,
        /// The step.
        step: Name,
        /// The name of the limit: `timeout` or `undo_timeout`.
        setting: &'static str,
    },
    /// The retries of a step are out of their bounds.
    #[error("saga \"{saga}\": step \"{step}\": the values of {setting} are out of their bounds")]
    InvalidRetry {
        /// The saga.
        saga: Name,
        /// The step.
        step: Name,
        /// The name of the setter: `undo_retry` or `run_again`.
        setting: &'static str,
        /// The field, its value and its bound.
        #[source]
        error: InvalidConfig,
    },
    /// A setting of a step has no effect.
    ///
    /// A saga attempts an undo again, and the action of a pivot or of a retryable step. It undoes a
    /// compensatable step instead.
    #[error(
        "saga \"{saga}\": step \"{step}\": {setting} has no effect, because the step {why}; remove it"
    )]
    UselessSetting {
        /// The saga.
        saga: Name,
        /// The step.
        step: Name,
        /// The name of the setter, e.g. `undo_retry`.
        setting: &'static str,
        /// The reason: `has no undo`, `is compensatable` or `waits`.
        why: &'static str,
    },
    /// The greatest number of concurrent steps is 0.
    #[error("saga \"{saga}\": max_concurrent is 0, at least 1 is required")]
    NoConcurrency {
        /// The saga.
        saga: Name,
    },
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
    pub(in crate::saga) name: Name,
    pub(in crate::saga) kind: Kind,
    pub(in crate::saga) on_crash: OnCrash,
    pub(in crate::saga) has_undo: bool,
    /// What the step waits for. Such a step calls no service.
    pub(in crate::saga) waits: Option<Wait>,
    /// The steps that must be done before this one.
    pub(in crate::saga) parents: Vec<u16>,
    /// The steps that wait for this one.
    pub(in crate::saga) children: Vec<u16>,
}

impl StepPlan {
    /// Whether the step waits for a signal, whose name is the name of the step.
    pub(in crate::saga) fn takes_signal(&self) -> bool {
        self.waits.is_some_and(Wait::is_for_signal)
    }
}

/// The facts about a definition that the state machine needs.
#[derive(Clone, Debug)]
pub(in crate::saga) struct Plan {
    pub(in crate::saga) steps: Vec<StepPlan>,
    /// The numbers of all steps, each after all steps that must be done before it.
    pub(in crate::saga) order: Vec<u16>,
    /// How many steps of one saga run concurrently.
    pub(in crate::saga) max_concurrent: usize,
    /// Whether a step waits for a time or a signal.
    pub(in crate::saga) has_waits: bool,
    /// Whether a step waits for a signal.
    pub(in crate::saga) has_signals: bool,
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
        let mut plan = Self { steps, order: Vec::new(), max_concurrent, has_waits, has_signals };
        let (order, ancestors) = plan.ancestors(saga)?;
        plan.order = order;
        plan.check_kinds(saga, &ancestors)?;
        Ok(plan)
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
