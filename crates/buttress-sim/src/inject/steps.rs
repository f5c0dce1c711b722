use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buttress::Name;
use buttress_durable::saga::{Direction, SagaId, StepKey};

use super::rules::{Calls, Injection, Rules};
use super::step_service::FaultyStep;
use crate::crash::CrashPoints;
use crate::rng::Seed;

/// Faults at the steps of sagas, by the name of the step. Cheap to clone; clones have the same faults.
///
/// [`around`](Self::around) wraps the service of a step. [`action`](Self::action) and
/// [`undo`](Self::undo) then inject faults into its calls, before and while sagas run. The layers of a
/// step are outside of the wrapped service, as they are in production.
///
/// If several faults match a call, the call has the fault that was added first. Without a seed nothing is
/// random.
#[derive(Clone, Default)]
pub struct StepFaults {
    rules: Arc<Mutex<Rules<Target, StepFault>>>,
}

/// The calls of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Target {
    step: Name,
    direction: Direction,
    /// `None` for all sagas.
    saga: Option<SagaId>,
}

impl Target {
    fn matches(&self, key: StepKey) -> bool {
        (self.step, self.direction) == (key.step(), key.direction())
            && self.saga.is_none_or(|saga| saga == key.saga())
    }
}

/// The fault of a call.
#[derive(Clone, Debug)]
pub(super) enum StepFault {
    Fail(String),
    DoubtBefore,
    DoubtAfter,
    Repeat,
    HangBefore,
    HangAfter,
    CrashBefore(CrashPoints),
    CrashAfter(CrashPoints),
}

impl StepFault {
    fn words(&self) -> &'static str {
        match self {
            Self::Fail(_) => "fails",
            Self::DoubtBefore => "loses its request",
            Self::DoubtAfter => "loses its answer",
            Self::Repeat => "is repeated",
            Self::HangBefore => "hangs before its effect",
            Self::HangAfter => "hangs after its effect",
            Self::CrashBefore(_) => "crashes before its effect",
            Self::CrashAfter(_) => "crashes after its effect",
        }
    }
}

/// The error of a call with an injected fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Injected {
    text: String,
    definite: bool,
}

impl Injected {
    pub(super) fn definite(text: String) -> Self {
        Self { text, definite: true }
    }

    pub(super) fn in_doubt(text: &str) -> Self {
        Self { text: text.to_owned(), definite: false }
    }

    /// Returns `true` for a call that [failed](At::fail), so that it certainly had no effect. Returns
    /// `false` for a call in doubt.
    #[must_use]
    pub fn is_definite(&self) -> bool {
        self.definite
    }
}

impl StepFaults {
    /// Creates the faults of a test. It has none yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a fault of the action of `step`.
    pub fn action(&self, step: impl Into<Name>) -> At<'_> {
        self.at(step.into(), Direction::Action)
    }

    /// Begins a fault of the undo of `step`.
    pub fn undo(&self, step: impl Into<Name>) -> At<'_> {
        self.at(step.into(), Direction::Undo)
    }

    fn at(&self, step: Name, direction: Direction) -> At<'_> {
        let target = Target { step, direction, saga: None };
        At { faults: self, target, calls: Calls::Nth(1) }
    }

    /// Wraps the service of a step. The step and the direction of a call are in its
    /// [key](buttress_durable::saga::Call::key), so one set of faults serves the actions and undos of all
    /// steps.
    ///
    /// `to_error` makes an error of the service from an injected one: `Into::into` for a service with a
    /// `BoxError`.
    pub fn around<S, M>(&self, service: S, to_error: M) -> FaultyStep<S, M> {
        FaultyStep::new(self.clone(), service, to_error)
    }

    /// Returns a text for each fault that no call has met so far. A misspelt name of a step is among
    /// them, so a test should assert that there are none at its end.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        self.lock().unused()
    }

    /// Removes all faults.
    pub fn clear(&self) {
        self.lock().clear();
    }

    pub(super) fn decide(&self, key: StepKey) -> Option<StepFault> {
        self.lock().decide(|target| target.matches(key))
    }

    fn lock(&self) -> MutexGuard<'_, Rules<Target, StepFault>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for StepFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepFaults").field("faults", &self.lock().len()).finish_non_exhaustive()
    }
}

/// The calls of a step that get a fault. By default that is the next call, in any saga.
///
/// Its last method adds the fault. Calls are counted from then on, including the attempts of a retry
/// among the layers of the step.
#[derive(Clone, Copy, Debug)]
#[must_use = "the fault is added by the method that names it"]
pub struct At<'a> {
    faults: &'a StepFaults,
    target: Target,
    calls: Calls,
}

#[expect(
    clippy::must_use_candidate,
    reason = "the fault is injected, whether or not the test keeps the handle"
)]
impl At<'_> {
    /// Counts only calls of `saga`. Default: calls of all sagas are counted together.
    pub const fn of(mut self, saga: SagaId) -> Self {
        self.target.saga = Some(saga);
        self
    }

    /// Injects the fault into call `nth`. The next call is 1. Default: 1.
    pub const fn nth(mut self, nth: u64) -> Self {
        self.calls = Calls::Nth(nth);
        self
    }

    /// Injects the fault into the next `calls` calls.
    pub const fn first(mut self, calls: u64) -> Self {
        self.calls = Calls::First(calls);
        self
    }

    /// Injects the fault into all calls.
    pub const fn always(mut self) -> Self {
        self.calls = Calls::All;
        self
    }

    /// Injects the fault into a share of all calls, from 0 to 1, drawn from `seed`. The draw depends on the
    /// number of the call alone.
    pub const fn share(mut self, share: f64, seed: Seed) -> Self {
        self.calls = Calls::Share(seed, share);
        self
    }

    /// Makes the call fail: the service is not called, and the call returns `text` as a
    /// [definite](Injected::is_definite) error.
    ///
    /// The definition decides which errors are definite
    /// ([`ActionBuilder::definite`](buttress_durable::saga::ActionBuilder::definite)), so the error must
    /// be one of them.
    pub fn fail(self, text: impl Into<String>) -> Injection {
        self.inject(StepFault::Fail(text.into()))
    }

    /// Loses the request: the service is not called, and the call returns an error in doubt.
    pub fn doubt_before(self) -> Injection {
        self.inject(StepFault::DoubtBefore)
    }

    /// Loses the answer: the service is called, and the call returns an error in doubt instead of the
    /// answer.
    pub fn doubt_after(self) -> Injection {
        self.inject(StepFault::DoubtAfter)
    }

    /// Repeats the call: the service is called twice with the same key, the second time after the end of the first
    /// call. The call returns the second answer.
    pub fn repeat(self) -> Injection {
        self.inject(StepFault::Repeat)
    }

    /// Makes the call hang before its effect: the service is not called, and the call never ends.
    pub fn hang_before(self) -> Injection {
        self.inject(StepFault::HangBefore)
    }

    /// Makes the call hang after its effect: the service is called, and the call never returns the answer.
    pub fn hang_after(self) -> Injection {
        self.inject(StepFault::HangAfter)
    }

    /// Crashes the process before the service is called. `process` is its current life: the executor has
    /// its [spawner](CrashPoints::spawner).
    pub fn crash_before(self, process: &CrashPoints) -> Injection {
        self.inject(StepFault::CrashBefore(process.clone()))
    }

    /// Crashes the process after the service was called, and before the saga gets the answer.
    pub fn crash_after(self, process: &CrashPoints) -> Injection {
        self.inject(StepFault::CrashAfter(process.clone()))
    }

    fn inject(self, fault: StepFault) -> Injection {
        let Self { faults, target: Target { step, direction, saga }, calls } = self;
        let direction_word = match direction {
            Direction::Action => "action",
            Direction::Undo => "undo",
        };
        let of = saga.map_or_else(String::new, |saga| format!(" of saga {saga}"));
        let text = format!("{direction_word} \"{step}\"{of}, {}: {}", calls.words(), fault.words());
        faults.lock().add(self.target, calls, fault, text)
    }
}
