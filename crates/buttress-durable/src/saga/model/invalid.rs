//! [`InvalidDefinition`]: why a definition is refused.

use buttress::{InvalidConfig, Name};

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
        /// The reason: `has no undo`, `is compensatable`, `waits` or `runs a child saga`.
        why: &'static str,
    },
    /// The sagas of a definition cannot be children.
    #[error(
        "saga \"{saga}\": step \"{step}\": sagas of \"{child}\" cannot be children; call can_be_child on its builder"
    )]
    NoChild {
        /// The saga.
        saga: Name,
        /// The step.
        step: Name,
        /// The definition of the child.
        child: Name,
    },
    /// A compensatable step runs a child saga with a point of no return, so the step could not be undone.
    #[error(
        "saga \"{saga}\": step \"{step}\" is compensatable, but step \"{last}\" of its child \"{child}\" is a pivot or \
         retryable; make step \"{step}\" the pivot"
    )]
    NoWayBack {
        /// The saga.
        saga: Name,
        /// The step.
        step: Name,
        /// The definition of the child.
        child: Name,
        /// The pivot or retryable step of the child.
        last: Name,
    },
    /// A retryable step runs a child saga. A child that was compensated is not started again.
    #[error(
        "saga \"{saga}\": step \"{step}\" is retryable and runs a child saga; make it compensatable or the pivot"
    )]
    RetryableChild {
        /// The saga.
        saga: Name,
        /// The step.
        step: Name,
    },
    /// The output of a child saga is the output of a step that its definition does not have.
    #[error("saga \"{saga}\": step \"{step}\": its child \"{child}\" has no step \"{output}\"")]
    UnknownOutput {
        /// The saga.
        saga: Name,
        /// The step.
        step: Name,
        /// The definition of the child.
        child: Name,
        /// The step with the output.
        output: Name,
    },
    /// The greatest number of concurrent steps is 0.
    #[error("saga \"{saga}\": max_concurrent is 0, at least 1 is required")]
    NoConcurrency {
        /// The saga.
        saga: Name,
    },
}
