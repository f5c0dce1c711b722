//! Operators' decisions about stuck sagas.

use std::sync::Arc;

use buttress::{Codec, CodecError};

use crate::bounded::bounded;
use crate::caught::caught;
use crate::instant;
use crate::saga::define::needs::StepHandle;
use crate::saga::error::SagaError;
use crate::saga::model::entry::{Entry, Status};
use crate::saga::model::plan::{StepPlan, Wait};
use crate::saga::model::state::{Hold, Phase, State, Step};
use crate::saga::run::counters::Counter;
use crate::saga::run::draft::MOST_ENTRIES;
use crate::saga::run::execution::Execution;
use crate::saga::run::executor::Executor;
use crate::saga::run::slots::Turn;
use crate::saga::store::{SagaId, Store};

/// Returns the text of entries that operators cause.
fn by_operator() -> Option<String> {
    Some("by an operator".to_owned())
}

/// The finding of an operator about an action in doubt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Resolution<T> {
    /// The action happened, with this output.
    Happened(T),
    /// The action did not happen. The saga of a pivot then unwinds. A
    /// [retryable](crate::saga::Kind::Retryable) step has failed and its saga stays stuck, because
    /// there is no way back; an operator can [retry](crate::saga::Executor::retry) it.
    DidNotHappen,
}

impl<I: Send + Sync + 'static, F: Codec<I>, St: Store<F::Encoded>> Executor<I, F, St> {
    /// Retries the steps of a stuck saga that failed or are in doubt, for an operator. A step whose
    /// [child](crate::saga::StepBuilder::child) is stuck looks at its child again.
    ///
    /// # Errors
    /// Returns an error if the saga is not stuck, or if the store failed.
    pub async fn retry(&self, saga: SagaId) -> Result<Execution, SagaError> {
        if let Some(other) = self.version_of(saga).await? {
            return other.retry(saga).await;
        }
        self.decide(saga, |state, step, number| {
            let stuck = match step {
                Step::UndoFailed { .. } | Step::InDoubt | Step::Failed => true,
                // Stuck at a child saga.
                Step::Acting | Step::Undoing { .. } => true,
                _ => self.is_at_commit(state, number),
            };
            stuck.then(|| Entry::Retried { step: number, why: by_operator() })
        })
        .await
    }

    /// Counts the failed undos of a stuck saga as done, for an operator. If the saga is stuck because it could not
    /// commit a [child](crate::saga::StepBuilder::child), it completes without this child.
    ///
    /// # Errors
    /// Returns an error if the saga is not stuck at an undo or at a child, or if the store failed.
    pub async fn skip(&self, saga: SagaId) -> Result<Execution, SagaError> {
        if let Some(other) = self.version_of(saga).await? {
            return other.skip(saga).await;
        }
        self.decide(saga, |state, step, number| {
            let stuck = match step {
                // An undo in progress is stuck at a child saga.
                Step::UndoFailed { .. } | Step::Undoing { .. } => true,
                _ => self.is_at_commit(state, number),
            };
            stuck.then(|| Entry::Skipped { step: number, why: by_operator() })
        })
        .await
    }

    /// Records whether the action of `step` happened, in a saga that is stuck with this action in
    /// doubt.
    ///
    /// # Errors
    /// Returns an error if the saga is not stuck at this step, or the step is of another definition.
    /// Also returns an error if the output cannot be encoded, or the store failed.
    pub async fn resolve<T>(
        &self,
        saga: SagaId,
        step: StepHandle<T>,
        resolution: Resolution<T>,
    ) -> Result<Execution, SagaError>
    where
        F: Codec<T>,
        T: Send + Sync + 'static,
    {
        if self.core.definition.inner.step_name(step.number()) != step.name() {
            let why = format!("\"{}\" is a step of another definition", step.name());
            return Err(SagaError::NotPossible { saga, why });
        }
        let plan = self.core.definition.inner.plan.steps.get(usize::from(step.number()));
        if plan.is_some_and(|plan| plan.waits == Some(Wait::OptionalSignal)) {
            let why =
                format!("\"{}\" waits for a signal: send it, and retry the saga", step.name());
            return Err(SagaError::NotPossible { saga, why });
        }
        let (step, why) = (step.number(), by_operator());
        let entry = match resolution {
            Resolution::DidNotHappen => Entry::DidNotHappen { step, why },
            Resolution::Happened(output) => {
                // The codec is user code.
                let output = Arc::new(output);
                let output = caught(|| self.core.definition.inner.codec.encode(&output));
                let output = output.unwrap_or_else(|why| Err(CodecError::new(F::NAME, why)));
                let output = output.map_err(|error| SagaError::Input { saga, error })?;
                Entry::Happened { step, output, why }
            }
        };
        self.decide(saga, |_, now, number| {
            let stuck = match &entry {
                Entry::Happened { .. } => matches!(now, Step::InDoubt | Step::Failed),
                _ => now == Step::InDoubt,
            };
            (stuck && number == step).then(|| entry.clone())
        })
        .await
    }

    /// Whether a saga has committed, and may be stuck at the commit of the child of this step.
    fn is_at_commit(&self, state: &State, step: u16) -> bool {
        let plan = self.core.definition.inner.plan.steps.get(usize::from(step));
        state.hold == Hold::Committed && plan.is_some_and(StepPlan::holds_child)
    }

    /// Takes a stuck saga over, and applies `decision` to its steps.
    async fn decide(
        &self,
        saga: SagaId,
        decision: impl Fn(&State, Step, u16) -> Option<Entry<F::Encoded>>,
    ) -> Result<Execution, SagaError> {
        let core = &self.core;
        let store = |error| SagaError::Store { saga, error };
        let not = |why: &str| SagaError::NotPossible { saga, why: why.to_owned() };
        if core.is_shutting_down() {
            return Err(SagaError::ShutDown { saga });
        }
        let asked = core.config.common.clock.now();
        // Everything below waits at most the patience of a caller.
        let ends = instant::after(asked, core.config.patience);
        let left = || ends.saturating_duration_since(core.config.common.clock.now());
        let clock = &core.config.common.clock;
        let alone = async { Ok(core.deciding.lock().await) };
        let _alone = bounded(clock, left(), "waiting for another decision", alone).await;
        let _alone = _alone.map_err(store)?;
        let beginning = bounded(clock, left(), "taking a lease", core.begin_live_lease()).await;
        beginning.map_err(store)?;
        let Some(_reserved) = core.reserve(saga) else {
            return Err(not("the saga runs on this executor"));
        };
        // Loaded before it is taken: a saga that needs no decision stays with its owner.
        let loading = bounded(clock, left(), "loading a saga", core.store.load(saga)).await;
        let record = loading.map_err(store)?;
        let record = record.ok_or_else(|| not("there is no such saga"))?;
        self.check_definition(&record)?;
        if record.status != Status::Stuck {
            return Err(not(&format!("the saga is {}, not stuck", record.status.as_str())));
        }
        let taking = core.store.take_saga(core.lease.worker, saga);
        let taken = bounded(clock, left(), "taking a saga", taking).await.map_err(store)?;
        let record = taken.ok_or_else(|| not("another worker owns the saga"))?;
        let state = State::fold(core.definition.inner.steps.len(), &record.entries);
        let state = state.map_err(|why| SagaError::Corrupt { saga, why })?;
        let mut entries = Vec::new();
        for (step, now) in (0u16..).zip(&state.steps) {
            // Steps that do not fit into one write stay stuck, for another decision.
            if entries.len() >= MOST_ENTRIES {
                break;
            }
            let Some(entry) = decision(&state, *now, step) else { continue };
            let retried = matches!(entry, Entry::Retried { .. });
            entries.push(entry);
            // Both entries in one write, so that no other entry comes between them.
            if retried && *now == Step::InDoubt && state.phase == Phase::Forward {
                entries.push(Entry::ActionStarted { step });
            }
        }
        if !state.stuck || entries.is_empty() {
            return Err(not("the saga is not stuck at a step that this decision is for"));
        }
        self.resume(record, entries, Turn::Now, Counter::Resumed)
    }
}
