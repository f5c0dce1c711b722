//! [`Executor`]: runs the sagas of one definition.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use buttress::{Codec, Format, InMemory, InvalidConfig, StoreError};
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::saga::config::Config;
use crate::saga::define::definition::Definition;
use crate::saga::error::SagaError;
use crate::saga::history::Histories;
use crate::saga::memory::MemoryStore;
use crate::saga::model::child::Parent;
use crate::saga::model::plan::Plan;
use crate::saga::model::state::State;
use crate::saga::reasons::Reasons;
use crate::saga::report::{Stats, Tree};
use crate::saga::run::counters::{Counter, Counters};
use crate::saga::run::drive::{Control, Registered, Run, Signals};
use crate::saga::run::execution::Execution;
use crate::saga::run::lease::Lease;
use crate::saga::run::shared::{Core, Resumed};
use crate::saga::run::slots::Place;
use crate::saga::run::step_runs::StepRuns;
use crate::saga::run::troubles::Troubles;
use crate::saga::store::{Page, SagaId, Store, Summary, WorkerId};

/// An executor, which runs the sagas of one definition, with a store for their logs. Cheap to clone.
///
/// Clones share one executor. The [module](crate::saga) page has the rules.
pub struct Executor<I, F: Format, St> {
    pub(in crate::saga) core: Arc<Core<I, F, St>>,
}

impl<I, F, St> Executor<I, F, St>
where
    I: Send + Sync + 'static,
    F: Codec<I>,
    St: Store<F::Encoded>,
{
    /// Creates an executor that keeps logs in `store`.
    ///
    /// # Errors
    /// Returns [`InvalidConfig`] if a value is outside the bounds of its setter, if a backoff is
    /// invalid, or if the definition has a step that waits, or can be a
    /// [child](crate::saga::Builder::can_be_child), and the store does not keep
    /// [waiting sagas](Store::keeps_waits) or [signals](Store::keeps_signals).
    pub fn new(
        definition: Definition<I, F>,
        store: St,
        config: Config,
    ) -> Result<Self, InvalidConfig> {
        config.common.named(config.check())?;
        let slots = Arc::new(Semaphore::new(config.max_resumed.min(Semaphore::MAX_PERMITS)));
        Self::with_room(definition, store, config, (slots, Arc::default()))
    }

    /// Creates an executor that shares the room for resumed sagas with others.
    pub(in crate::saga) fn with_room(
        definition: Definition<I, F>,
        store: St,
        config: Config,
        (slots, resumed): (Arc<Semaphore>, Arc<Resumed>),
    ) -> Result<Self, InvalidConfig> {
        config.common.named(check_store(&definition.inner.plan, &store))?;
        config.common.check_clock(config.layer().as_str());
        let worker = WorkerId::random(&config.common.rng);
        let lease = Lease::new(worker, config.lease, config.common.clock.clone());
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
            watched: Mutex::default(),
            taking: Mutex::default(),
            left: Mutex::default(),
            recovering: tokio::sync::Mutex::default(),
            deciding: tokio::sync::Mutex::default(),
            slots,
            resumed,
            other_versions: Mutex::default(),
            versions: Mutex::default(),
        };
        Ok(Self { core: Arc::new(core) })
    }

    /// Registers a saga that is about to run here; returns no run if the saga runs here already.
    pub(in crate::saga) fn run(
        &self,
        id: SagaId,
        epoch: u64,
        step_runs: StepRuns<I, F, St>,
        durable: State,
        position: u64,
    ) -> (Option<Run<I, F, St>>, Execution) {
        let (reply, receiver) = oneshot::channel();
        let control = Arc::new(Control::default());
        let mut active = self.core.active();
        let free = !active.contains_key(&id);
        let steps = durable.steps.len();
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
            reasons: Reasons::default(),
            notes: HashMap::new(),
            alarms: Vec::new(),
            limits: HashMap::new(),
            signals: Signals::default(),
            histories: Histories::new(steps),
            blocked: Vec::new(),
            children_committed: false,
            turn: Place::default(),
            creating: None,
            reply: Some(reply),
            step_runs,
            _registered: Registered { core: self.core.clone(), id },
        });
        (run, Execution::new(id, receiver))
    }

    /// Requests that a saga unwinds, wherever it runs. Returns `false` if the saga is unknown or
    /// has ended.
    ///
    /// Steps in progress end first. A saga that only waits unwinds immediately. A saga past its
    /// point of no return still completes. A stuck saga stays stuck. The executor that runs the saga notices a
    /// cancel by another executor when it next writes to the log, also if that is the end of the last step.
    ///
    /// Only a parent cancels its [child](crate::saga::StepBuilder::child), because the parent relies on a child that is
    /// done: cancel the parent.
    ///
    /// # Errors
    /// Returns the error of the store. Returns a [`Conflict`](buttress::StoreErrorKind::Conflict) that names the parent
    /// if the saga is a child.
    pub async fn cancel(&self, saga: SagaId) -> Result<bool, StoreError> {
        if self.core.definition.inner.plan.can_be_child {
            let loading = self.core.store.load(saga);
            let record = self.core.ask("loading a saga", loading).await?;
            if let Some(parent) = record.and_then(|record| Parent::of(&record.entries)) {
                let parent = SagaId::new(parent.saga);
                let why = format!("saga {saga} is a child of saga {parent}: cancel saga {parent}");
                return Err(StoreError::conflict(why));
            }
        }
        self.request_cancel(saga).await
    }

    /// Requests that a saga unwinds, also a child.
    pub(in crate::saga) async fn request_cancel(&self, saga: SagaId) -> Result<bool, StoreError> {
        let asking = self.core.store.request_cancel(saga);
        let known = self.core.ask("cancelling a saga", asking).await?;
        if known {
            self.notify_of_cancel(saga);
        }
        Ok(known)
    }

    /// Makes a saga unwind, if it runs or waits here, of any version.
    pub(in crate::saga) fn notify_of_cancel(&self, saga: SagaId) {
        let control = self.core.active().get(&saga).cloned();
        match control {
            Some(control) => control.cancel(),
            None => self.wake_soon(),
        }
        self.core.versions().iter().for_each(|other| other.notify_of_cancel(saga));
    }

    /// Returns the state of a saga according to its log; `None` if the saga is unknown.
    ///
    /// # Errors
    /// Returns an error if the store failed, the log cannot be read, or the saga is of another
    /// definition. Returns [`OtherVersion`](SagaError::OtherVersion) if it is of a version that does not run here:
    /// see [`also_run`](Self::also_run).
    pub async fn state(&self, saga: SagaId) -> Result<Option<Tree>, SagaError> {
        let store = |error| SagaError::Store { saga, error };
        let loading = self.core.store.load(saga);
        let loaded = self.core.ask("loading a saga", loading).await;
        let Some(record) = loaded.map_err(store)? else {
            return Ok(None);
        };
        self.tree_of(&record).map(Some)
    }

    /// Lists the sagas of a page, of all definitions in the store, ordered by id.
    ///
    /// # Errors
    /// Returns the error of the store.
    pub async fn list(&self, page: Page) -> Result<Vec<Summary>, StoreError> {
        let listing = self.core.store.list(page);
        self.core.ask("listing sagas", listing).await
    }

    /// Shuts the executor down: stops starting steps, waits for the steps in progress, and releases
    /// the lease. Also shuts down the executors of versions that [also run](Self::also_run) here.
    ///
    /// The executor waits until the ends of these steps are recorded. Other workers can then resume
    /// the unfinished sagas.
    ///
    /// # Errors
    /// Returns the error of the store if the release of the lease failed. The lease then runs out
    /// by itself.
    ///
    /// # Cancel safety
    /// If the future is dropped, the executor continues to shut down, but keeps its lease.
    pub async fn shut_down(&self) -> Result<(), StoreError> {
        let core = &self.core;
        self.stop();
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
        let releasing = core.store.release_worker(core.lease.worker);
        let mut released = core.ask("retiring a worker", releasing).await;
        for other in core.registered() {
            let other = other.shut_down().await;
            released = released.and(other);
        }
        released
    }

    /// Stops starting steps, of all versions that run here.
    pub(in crate::saga) fn stop(&self) {
        self.core.shutting_down.store(true, Ordering::Release);
        let controls: Vec<_> = self.core.active().values().cloned().collect();
        controls.iter().for_each(|control| control.wake());
        self.core.registered().iter().for_each(|other| other.stop());
    }

    /// Returns a snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let sum = |counter| self.core.counters.sum(counter);
        Stats {
            started: sum(Counter::Started),
            resumed: sum(Counter::Resumed),
            woken: sum(Counter::Woken),
            signalled: sum(Counter::Signalled),
            completed: sum(Counter::Completed),
            compensated: sum(Counter::Compensated),
            stuck: sum(Counter::Stuck),
            fenced: sum(Counter::Fenced),
            steps_executed: sum(Counter::Executed),
            steps_failed: sum(Counter::Failed),
            compensations_executed: sum(Counter::Undone),
            compensations_failed: sum(Counter::UndoFailed),
            store_failed: sum(Counter::StoreFailed),
            active: self.core.active().len() as u64,
        }
    }

    /// Returns the id under which this executor owns its sagas.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.core.lease.worker
    }

    /// Returns the definition of the sagas.
    #[must_use]
    pub fn definition(&self) -> &Definition<I, F> {
        &self.core.definition
    }
}

impl<I: Send + Sync + 'static> Executor<I, InMemory, MemoryStore> {
    /// Creates an executor that keeps its logs in memory. Its sagas end with the process.
    ///
    /// # Errors
    /// Returns the errors of [`new`](Self::new).
    pub fn in_memory(definition: Definition<I>, config: Config) -> Result<Self, InvalidConfig> {
        let store = MemoryStore::new(config.common.clock.clone());
        Self::new(definition, store, config)
    }
}

/// Refuses a store that keeps less than the sagas of a plan need.
fn check_store<P>(plan: &Plan, store: &impl Store<P>) -> Result<(), InvalidConfig> {
    if plan.has_waits && !store.keeps_waits() {
        let bound = "a store that keeps waiting sagas, for a definition with a step that waits or \
                     whose sagas can be children";
        return Err(InvalidConfig::new("store", "a store without waiting sagas", bound));
    }
    if plan.has_signals && !store.keeps_signals() {
        let bound = "a store that keeps signals, for a definition with a step that waits for one";
        return Err(InvalidConfig::new("store", "a store without signals", bound));
    }
    Ok(())
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
