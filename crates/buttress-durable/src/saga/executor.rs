//! [`Executor`]: runs the sagas of one definition.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use buttress::{Codec, CodecError, Format, InMemory, InvalidConfig, StoreError};
use tokio::sync::{Notify, oneshot};

use super::attempt::caught;
use super::config::Config;
use super::counters::{Counter, Counters};
use super::definition::Definition;
use super::error::SagaError;
use super::execution::Execution;
use super::flight::Flight;
use super::lease::{self, Lease};
use super::needs::Outputs;
use super::report::{Report, Stats, Tree};
use super::run::{Control, Creating, Registered, Run};
use super::shared::Core;
use super::state::State;
use super::store::{SagaId, Status, Store, Summary, WorkerId};
use super::troubles::Troubles;
use crate::instant;

/// Runs sagas of one definition, with a store for their logs. Cheap to clone; clones are the same
/// executor. See the [module](super) for everything else.
pub struct Executor<I, F: Format, St> {
    pub(super) core: Arc<Core<I, F, St>>,
}

impl<I, F, St> Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// An executor that keeps logs in `store`.
    ///
    /// # Errors
    /// A lease, deadline or patience of zero or beyond 365 days, no attempts, a backoff that makes no
    /// sense.
    pub fn new(
        definition: Definition<I, F>,
        store: St,
        config: Config,
    ) -> Result<Self, InvalidConfig> {
        config.check()?;
        let worker = WorkerId::random(&config.rng);
        let lease = Lease::new(worker, config.lease, config.clock.clone());
        let core = Core {
            definition,
            store,
            config,
            lease,
            troubles: Troubles::default(),
            counters: Counters::default(),
            active: Mutex::default(),
            shutting_down: AtomicBool::new(false),
            shut_down: AtomicBool::new(false),
            idle: Notify::new(),
            taking: Mutex::default(),
            left: Mutex::default(),
            recovering: tokio::sync::Mutex::default(),
            deciding: tokio::sync::Mutex::default(),
        };
        Ok(Self { core: Arc::new(core) })
    }

    /// Starts a saga, and returns when that is durable. From then on it runs to its end, whoever waits.
    ///
    /// # Errors
    /// The saga was not stored: the store refused for longer than
    /// [`patience`](Config::patience), the input is too large or cannot be encoded, the executor is
    /// shutting down. After a transient error it may still be found by [`recover`](Self::recover).
    ///
    /// # Cancel safety
    /// Once polled, a saga may be started although this future is dropped.
    pub async fn start(&self, input: I) -> Result<Execution, SagaError> {
        let id = SagaId::random(&self.core.config.rng);
        self.start_as(id, input).await
    }

    /// [`start`](Self::start) under an id of the caller's, so that one occasion starts one saga, however
    /// often it is asked for.
    ///
    /// # Errors
    /// As [`start`](Self::start), and a [`Conflict`](buttress::StoreErrorKind::Conflict) if a saga with this
    /// id has been started before: [`state`](Self::state) tells where it stands.
    pub async fn start_as(&self, id: SagaId, input: I) -> Result<Execution, SagaError> {
        let core = &self.core;
        let store = |error| SagaError::Store { saga: id, error };
        if core.is_shutting_down() {
            return Err(SagaError::ShutDown { saga: id });
        }
        let input = Arc::new(input);
        // The user's code.
        let encoded = caught(|| core.definition.inner.codec.encode(&input));
        let encoded = encoded.unwrap_or_else(|why| Err(CodecError::new(F::NAME, why)));
        let encoded = encoded.map_err(|error| SagaError::Input { saga: id, error })?;
        lease::begin(core).await.map_err(store)?;
        let (created, was_created) = oneshot::channel();
        let length = core.config.deadline;
        let now = core.config.clock.now();
        let deadline = length.map(|length| instant::after(now, length));
        let creating = Creating {
            input: encoded,
            deadline: length.map(|length| core.config.clock.unix().saturating_add(length)),
            created,
        };
        let steps = core.definition.inner.steps.len();
        let flight = Flight::new(core.clone(), id, input, Outputs::new(steps), deadline);
        let (run, execution) = {
            // Until it is among what runs here.
            let taking = core.taking();
            if taking.contains_key(&id) {
                return Err(store(StoreError::conflict(format!("saga {id} is resumed here"))));
            }
            self.run(id, 1, flight, State::new(steps), 0)
        };
        let Some(run) = run else {
            return Err(store(StoreError::conflict(format!("saga {id} runs here already"))));
        };
        let run = Run { creating: Some(creating), ..run };
        core.config.spawner.spawn(run.drive(Vec::new()));
        match was_created.await {
            Ok(Ok(())) => Ok(execution),
            Ok(Err(error)) => Err(store(error)),
            // Its task ended before that: by a panic, which it reports, or with its runtime.
            Err(_) => Err(execution.await.err().unwrap_or(SagaError::ShutDown { saga: id })),
        }
    }

    /// Starts a saga and waits for its end.
    ///
    /// # Errors
    /// As [`start`](Self::start), and what keeps it from being run to its end here.
    pub async fn run_to_end(&self, input: I) -> Result<Report, SagaError> {
        self.start(input).await?.await
    }

    /// Registers a saga that is about to run here; `None` if it does already.
    pub(super) fn run(
        &self,
        id: SagaId,
        epoch: u64,
        flight: Flight<I, F, St>,
        durable: State,
        position: u64,
    ) -> (Option<Run<I, F, St>>, Execution) {
        let (reply, receiver) = oneshot::channel();
        let control = Arc::new(Control::default());
        let mut active = self.core.active();
        let free = !active.contains_key(&id);
        if free {
            active.insert(id, control.clone());
        }
        drop(active);
        let run = free.then(|| Run {
            core: self.core.clone(),
            id,
            epoch,
            control,
            durable,
            position,
            reason: None,
            notes: HashMap::new(),
            creating: None,
            reply: Some(reply),
            flight,
            _registered: Registered { core: self.core.clone(), id },
        });
        (run, Execution { id, receiver })
    }

    /// Asks for a saga to be unwound, wherever it runs. Steps under way end first. `false` if there is
    /// no such saga or it has ended. Past its point of no return the saga goes through all the same, and
    /// one that is stuck stays so.
    ///
    /// # Errors
    /// The store failed.
    pub async fn cancel(&self, saga: SagaId) -> Result<bool, StoreError> {
        let known = self.core.store.request_cancel(saga).await?;
        let control = self.core.active().get(&saga).cloned();
        if let (true, Some(control)) = (known, control) {
            control.cancel();
        }
        Ok(known)
    }

    /// Where a saga stands, as its log says; `None` if it is unknown.
    ///
    /// # Errors
    /// The store failed, the log cannot be read, or it is of another definition.
    pub async fn state(&self, saga: SagaId) -> Result<Option<Tree>, SagaError> {
        let store = |error| SagaError::Store { saga, error };
        let Some(record) = self.core.store.load(saga).await.map_err(store)? else {
            return Ok(None);
        };
        self.check_definition(&record)?;
        let definition = &self.core.definition.inner;
        let state = State::fold(definition.steps.len(), &record.entries);
        let state = state.map_err(|why| SagaError::Corrupt { saga, why })?;
        Ok(Some(Tree::new(saga, definition.name, &definition.plan, &state, &record.entries)))
    }

    /// Up to `limit` sagas of all definitions in the store, by id, beginning after `after`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list(
        &self,
        status: Option<Status>,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        self.core.store.list(status, after, limit).await
    }

    /// Stops starting steps, waits until those under way have ended and are written down, and gives up
    /// the lease, so that others can go on with what is unfinished.
    ///
    /// # Errors
    /// The store failed when the lease was given up: it runs out by itself.
    ///
    /// # Cancel safety
    /// When dropped, the executor goes on shutting down, but keeps its lease.
    pub async fn shut_down(&self) -> Result<(), StoreError> {
        let core = &self.core;
        core.shutting_down.store(true, Ordering::Release);
        loop {
            let idle = core.idle.notified();
            let controls: Vec<_> = core.active().values().cloned().collect();
            if controls.is_empty() {
                break;
            }
            controls.iter().for_each(|control| control.wake());
            idle.await;
        }
        core.shut_down.store(true, Ordering::Release);
        core.store.retire(core.lease.worker).await
    }

    /// The numbers as they are now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let sum = |counter| self.core.counters.sum(counter);
        Stats {
            started: sum(Counter::Started),
            resumed: sum(Counter::Resumed),
            completed: sum(Counter::Completed),
            compensated: sum(Counter::Compensated),
            stuck: sum(Counter::Stuck),
            fenced: sum(Counter::Fenced),
            steps_executed: sum(Counter::Executed),
            steps_failed: sum(Counter::Failed),
            compensations_executed: sum(Counter::Undone),
            compensations_failed: sum(Counter::UndoFailed),
            active: self.core.active().len() as u64,
        }
    }

    /// The id under which this executor owns its sagas.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.core.lease.worker
    }

    /// What it runs.
    #[must_use]
    pub fn definition(&self) -> &Definition<I, F> {
        &self.core.definition
    }
}

impl<I: Send + Sync + 'static> Executor<I, InMemory, super::MemoryStore> {
    /// An executor whose sagas end with the process.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn in_memory(definition: Definition<I>, config: Config) -> Result<Self, InvalidConfig> {
        let store = super::MemoryStore::new(config.clock.clone());
        Self::new(definition, store, config)
    }
}

impl<I, F: Format, St> Clone for Executor<I, F, St> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone() }
    }
}

impl<I, F: Format, St> fmt::Debug for Executor<I, F, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("definition", &self.core.definition)
            .field("worker", &self.core.lease.worker)
            .field("active", &self.core.active().len())
            .finish_non_exhaustive()
    }
}
