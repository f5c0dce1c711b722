//! Starting sagas.

use std::sync::Arc;

use buttress::{Codec, CodecError, StoreErrorKind};
use tokio::sync::oneshot;

use crate::caught::caught;
use crate::instant;
use crate::saga::define::needs::Outputs;
use crate::saga::error::SagaError;
use crate::saga::model::entry::Entry;
use crate::saga::model::state::State;
use crate::saga::report::Report;
use crate::saga::run::drive::{Creating, Run};
use crate::saga::run::execution::Execution;
use crate::saga::run::executor::Executor;
use crate::saga::run::origin;
use crate::saga::run::step_runs::StepRuns;
use crate::saga::store::{SagaId, Store};

/// The result of a start.
enum Begun {
    Here(Execution),
    /// The same saga was started before.
    Before,
}

impl<I: Send + Sync + 'static, F: Codec<I>, St: Store<F::Encoded>> Executor<I, F, St> {
    /// Starts a saga, and returns once the start is durable. From then on the saga runs to its end.
    ///
    /// The saga runs even if no caller waits for it.
    ///
    /// # Errors
    /// Returns an error if the saga was not stored. The causes: the store failed for longer than
    /// [`patience`](crate::saga::Config::patience), the input is too large or cannot be encoded, or
    /// the executor is shutting down. After a transient error, [`recover`](Self::recover) may still
    /// find the saga.
    ///
    /// # Cancel safety
    /// If the future is dropped after its first poll, the saga may be started nevertheless.
    pub async fn start(&self, input: I) -> Result<Execution, SagaError> {
        let id = SagaId::random(&self.core.config.common.rng);
        self.start_as(id, input).await
    }

    /// Starts a saga under an id of the caller's, so that repeated starts with one id start one
    /// saga. Otherwise like [`start`](Self::start).
    ///
    /// # Errors
    /// Returns the errors of [`start`](Self::start). Returns
    /// [`AlreadyStarted`](SagaError::AlreadyStarted) if a saga of this definition and version was
    /// started before under this id with the same input. [`state`](Self::state) returns its state.
    /// Returns a [`Conflict`](buttress::StoreErrorKind::Conflict) if the saga under this id has
    /// other content.
    pub async fn start_as(&self, id: SagaId, input: I) -> Result<Execution, SagaError> {
        match self.begin(id, input).await? {
            Begun::Here(execution) => Ok(execution),
            Begun::Before => Err(SagaError::AlreadyStarted { saga: id }),
        }
    }

    /// Starts a saga under an id of the caller's, or waits for the end of the saga that was started
    /// before.
    ///
    /// The earlier saga may have ended, be stuck, or run in another process. The execution reads
    /// its log repeatedly, at least once per second. It does not resume a saga whose worker
    /// crashed: [`keep_recovering`](Self::keep_recovering) does.
    ///
    /// # Errors
    /// Returns the errors of [`start_as`](Self::start_as), except `AlreadyStarted`.
    pub async fn start_or_attach(&self, id: SagaId, input: I) -> Result<Execution, SagaError> {
        match self.begin(id, input).await? {
            Begun::Here(execution) => Ok(execution),
            Begun::Before => Ok(self.attach(id)),
        }
    }

    async fn begin(&self, id: SagaId, input: I) -> Result<Begun, SagaError> {
        let core = &self.core;
        if core.is_shutting_down() {
            return Err(SagaError::ShutDown { saga: id });
        }
        let input = Arc::new(input);
        let encoded = self.encode_input(id, &input)?;
        let now = core.config.common.clock.now();
        match self.create(id, &input, &encoded, Vec::new()).await? {
            Some(execution) => Ok(Begun::Here(execution)),
            None => self.known(id, &input, &encoded, now).await.map(|()| Begun::Before),
        }
    }

    /// Creates a saga whose log begins with `first`, and runs it. Returns `None` if a saga with this id is known, or is
    /// being created or resumed here.
    pub(in crate::saga) async fn create(
        &self,
        id: SagaId,
        input: &Arc<I>,
        encoded: &F::Encoded,
        first: Vec<Entry<F::Encoded>>,
    ) -> Result<Option<Execution>, SagaError> {
        let core = &self.core;
        let store = |error| SagaError::Store { saga: id, error };
        if core.is_shutting_down() {
            return Err(SagaError::ShutDown { saga: id });
        }
        let now = core.config.common.clock.now();
        core.ask("taking a lease", core.begin_lease()).await.map_err(store)?;
        let (created, was_created) = oneshot::channel();
        let length = core.config.deadline;
        let deadline = length.map(|length| instant::after(now, length));
        let creating = Creating {
            input: encoded.clone(),
            deadline: length.map(|length| core.config.common.clock.unix().saturating_add(length)),
            asked: now,
            created,
        };
        let steps = core.definition.inner.steps.len();
        let step_runs =
            StepRuns::new(core.clone(), id, input.clone(), Outputs::new(steps), deadline);
        let registered = {
            // Held until the saga is registered as running here.
            let taking = core.taking();
            let resumed = taking.contains_key(&id);
            (!resumed).then(|| self.run(id, 1, step_runs, State::new(steps), 0))
        };
        let Some((Some(run), execution)) = registered else { return Ok(None) };
        let run = Run { creating: Some(creating), ..run };
        // Boxed: a task moves its future several times.
        let driving = Box::pin(run.drive(first));
        core.config.common.spawner.spawn(origin::of_caller().scope(driving));
        match was_created.await {
            Ok(Ok(())) => Ok(Some(execution)),
            Ok(Err(error)) if error.kind() == StoreErrorKind::Conflict => Ok(None),
            Ok(Err(error)) => Err(store(error)),
            // The task ended before the creation: by a panic, which it reports, or with its
            // runtime.
            Err(_) => Err(execution.await.err().unwrap_or(SagaError::ShutDown { saga: id })),
        }
    }

    pub(in crate::saga) fn encode_input(
        &self,
        saga: SagaId,
        input: &Arc<I>,
    ) -> Result<F::Encoded, SagaError> {
        // The codec is user code.
        let encoded = caught(|| self.core.definition.inner.codec.encode(input));
        let encoded = encoded.unwrap_or_else(|why| Err(CodecError::new(F::NAME, why)));
        encoded.map_err(|error| SagaError::Input { saga, error })
    }

    /// Starts a saga and waits for its end.
    ///
    /// # Errors
    /// Returns the errors of [`start`](Self::start), and the reason why the saga does not run to
    /// its end here.
    pub async fn run_to_end(&self, input: I) -> Result<Report, SagaError> {
        self.start(input).await?.await
    }
}
