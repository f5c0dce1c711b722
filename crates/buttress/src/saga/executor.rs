//! [`Executor`]: runs the sagas of one definition.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::config::Config;
use super::definition::Definition;
use super::flight::Flight;
use super::lease::{self, Lease};
use super::needs::{Outputs, StepHandle};
use super::plan::{Kind, OnCrash};
use super::report::{Report, SagaError, Stats, Tree, reason};
use super::run::{Control, Creating, Run};
use super::state::{State, Step};
use super::store::{Entry, EntryKind, Record, SagaId, Status, Store, Summary, WorkerId};
use crate::clock;
use crate::codec::{Codec, Format, InMemory};
use crate::counters::Counters;
use crate::invalid_config::InvalidConfig;
use crate::store_error::StoreError;

pub(super) const STARTED: usize = 0;
const RESUMED: usize = 1;
pub(super) const COMPLETED: usize = 2;
pub(super) const COMPENSATED: usize = 3;
pub(super) const STUCK: usize = 4;
pub(super) const FENCED: usize = 5;
const EXECUTED: usize = 6;
const FAILED: usize = 7;
const UNDONE: usize = 8;
const UNDO_FAILED: usize = 9;

/// Runs sagas of one definition, with a store for their logs. Cheap to clone; clones are the same
/// executor. See the [module](super) for everything else.
pub struct Executor<I, F: Format, St> {
    core: Arc<Core<I, F, St>>,
}

pub(super) struct Core<I, F: Format, St> {
    pub(super) definition: Definition<I, F>,
    pub(super) store: St,
    pub(super) config: Config,
    pub(super) lease: Lease,
    pub(super) counters: Counters<10>,
    active: Mutex<HashMap<SagaId, Arc<Control>>>,
    shutting_down: AtomicBool,
    shut_down: AtomicBool,
    /// Told when a saga ends here.
    idle: Notify,
}

impl<I, F: Format, St> Core<I, F, St> {
    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Acquire)
    }

    pub(super) fn has_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::Acquire)
    }

    pub(super) fn count(&self, kind: EntryKind) {
        self.counters.add(match kind {
            EntryKind::ActionDone => EXECUTED,
            EntryKind::ActionFailed | EntryKind::ActionInDoubt => FAILED,
            EntryKind::UndoDone => UNDONE,
            EntryKind::UndoFailed => UNDO_FAILED,
            _ => return,
        });
    }

    fn active(&self) -> MutexGuard<'_, HashMap<SagaId, Arc<Control>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ended(&self, saga: SagaId) {
        self.active().remove(&saga);
        self.idle.notify_waiters();
    }
}

/// What an operator found out about an action in doubt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Resolution<T> {
    /// It did happen, and this is its output.
    Happened(T),
    /// It did not happen: the saga unwinds.
    DidNotHappen,
}

/// What [`Executor::recover`] found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Sagas that run here again.
    pub resumed: Vec<SagaId>,
    /// Sagas that cannot be resumed: their logs cannot be read, or were started with other steps. They
    /// are left as they are; those taken over are free again when this worker retires.
    pub left: Vec<SagaError>,
}

/// A saga that has begun. Completes with its [`Report`]; dropping it leaves the saga running.
#[derive(Debug)]
#[must_use = "a saga's failure is in its report"]
pub struct Execution {
    id: SagaId,
    receiver: oneshot::Receiver<Result<Report, SagaError>>,
}

impl Execution {
    /// Which saga.
    #[must_use]
    pub fn id(&self) -> SagaId {
        self.id
    }
}

impl Future for Execution {
    type Output = Result<Report, SagaError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let saga = self.id;
        let received = Pin::new(&mut self.receiver).poll(cx);
        // The task is gone without an answer: its runtime was shut down.
        received.map(|result| result.unwrap_or(Err(SagaError::ShutDown { saga })))
    }
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
            counters: Counters::new(),
            active: Mutex::default(),
            shutting_down: AtomicBool::new(false),
            shut_down: AtomicBool::new(false),
            idle: Notify::new(),
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
    /// As [`start`](Self::start), and a [`Conflict`](crate::StoreErrorKind::Conflict) if a saga with this
    /// id has been started before: [`state`](Self::state) tells where it stands.
    pub async fn start_as(&self, id: SagaId, input: I) -> Result<Execution, SagaError> {
        let core = &self.core;
        let store = |error| SagaError::Store { saga: id, error };
        if core.is_shutting_down() {
            return Err(SagaError::ShutDown { saga: id });
        }
        let input = Arc::new(input);
        let encoded = core.definition.inner.codec.encode(&input);
        let encoded = encoded.map_err(|error| SagaError::Input { saga: id, error })?;
        lease::begin(core).await.map_err(store)?;
        let (created, was_created) = oneshot::channel();
        let length = core.config.deadline;
        let now = core.config.clock.now();
        let deadline = length.map(|length| clock::after(now, length));
        let creating = Creating {
            input: encoded,
            deadline: length.map(|length| core.config.clock.unix().saturating_add(length)),
            created,
        };
        let steps = core.definition.inner.steps.len();
        let flight = Flight::new(core.clone(), id, input, Outputs::new(steps), deadline);
        let (run, execution) = self.run(id, 1, flight, State::new(steps), 0);
        let Some(run) = run else {
            let why = "it runs here already".to_owned();
            return Err(SagaError::NotPossible { saga: id, why });
        };
        let run = Run { creating: Some(creating), ..run };
        core.config.spawner.spawn(run.drive(Vec::new()));
        match was_created.await {
            Ok(Ok(())) => {
                core.counters.add(STARTED);
                Ok(execution)
            }
            Ok(Err(error)) => Err(store(error)),
            Err(_) => Err(SagaError::ShutDown { saga: id }),
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
    fn run(
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
            creating: None,
            reply: Some(reply),
            flight,
        });
        (run, Execution { id, receiver })
    }

    /// Takes over every unfinished saga of this definition whose worker has no live lease, and resumes
    /// it. Call it when a process starts, and again from time to time, or see
    /// [`keep_recovering`](Self::keep_recovering).
    ///
    /// # Errors
    /// The store failed. What was taken over before that runs.
    pub async fn recover(&self) -> Result<Recovery, StoreError> {
        const AT_ONCE: usize = 100;
        let core = &self.core;
        let mut recovery = Recovery::default();
        lease::begin(core).await?;
        let definition = &core.definition.inner;
        while !core.is_shutting_down() {
            let (name, version) = (definition.name.as_str(), definition.version);
            let found = core.store.take_over(core.lease.worker, name, version, AT_ONCE).await?;
            let last = found.sagas.len() < AT_ONCE;
            for (saga, why) in found.corrupt {
                recovery.left.push(SagaError::Corrupt { saga, why });
            }
            for record in found.sagas {
                let id = record.id;
                match self.resume(record, Vec::new()) {
                    // Nobody waits for its report.
                    Ok(execution) => {
                        drop(execution);
                        recovery.resumed.push(id);
                    }
                    Err(error) => recovery.left.push(error),
                }
            }
            if last {
                break;
            }
        }
        Ok(recovery)
    }

    /// [`recover`](Self::recover)s at once and every `interval` until the executor is dropped or shut
    /// down, so that the sagas of a worker that crashed go on here when its lease has run out.
    pub fn keep_recovering(&self, interval: Duration) {
        let core = Arc::downgrade(&self.core);
        let clock = self.core.config.clock.clone();
        self.core.config.spawner.spawn(async move {
            loop {
                match core.upgrade().map(|core| Self { core }) {
                    Some(executor) if !executor.core.is_shutting_down() => {
                        executor.recover_and_tell().await;
                    }
                    _ => return,
                }
                clock.sleep(interval).await;
            }
        });
    }

    async fn recover_and_tell(&self) {
        let layer = self.core.config.name.as_str();
        match self.recover().await {
            Ok(recovery) => {
                for error in recovery.left {
                    tracing::error!(target: "buttress", layer, %error, "saga not resumed");
                }
            }
            Err(error) => tracing::warn!(target: "buttress", layer, %error, "recovery failed"),
        }
    }

    /// Runs a saga on from its log, after `decision`, which an operator has made.
    fn resume(
        &self,
        record: Record<F::Encoded>,
        decision: Vec<Entry<F::Encoded>>,
    ) -> Result<Execution, SagaError> {
        let core = &self.core;
        let definition = &core.definition.inner;
        let saga = record.id;
        let corrupt = |why: String| SagaError::Corrupt { saga, why };
        self.check_definition(&record)?;
        let state = State::fold(definition.steps.len(), &record.entries).map_err(corrupt)?;
        let input = definition.codec.decode(&record.input);
        let input = input.map_err(|error| corrupt(format!("input: {error}")))?;
        let mut outputs = Outputs::new(definition.steps.len());
        let made = record.entries.iter().chain(&decision);
        for (position, entry) in made.enumerate() {
            if let (EntryKind::ActionDone | EntryKind::Happened, Some(payload)) =
                (entry.kind, &entry.payload)
                && let Some(code) = definition.steps.get(usize::from(entry.step))
            {
                let output = (code.decode)(&definition.codec, payload);
                let output =
                    output.map_err(|error| corrupt(format!("entry {position}: {error}")))?;
                outputs.set(entry.step, Some(output));
            }
        }
        let mut first = decision;
        first.extend(self.again(&state));
        let deadline = record.deadline.map(|deadline| self.instant(deadline));
        let position = record.entries.len() as u64;
        let flight = Flight::new(core.clone(), saga, input, outputs, deadline);
        let (run, execution) = self.run(saga, record.epoch, flight, state, position);
        let Some(mut run) = run else {
            // Taken over from ourselves: whoever runs it here will find itself fenced.
            let why = "it still runs here under an older epoch".to_owned();
            return Err(SagaError::NotPossible { saga, why });
        };
        run.reason = reason(&record.entries).map(Into::into);
        if record.cancel_requested {
            run.control.cancel();
        }
        core.counters.add(RESUMED);
        core.config.spawner.spawn(run.drive(first));
        Ok(execution)
    }

    /// The first entries of a new owner: what the one before left under way.
    fn again(&self, state: &State) -> Vec<Entry<F::Encoded>> {
        let plan = &self.core.definition.inner.plan;
        let steps = (0u16..).zip(&state.steps).zip(&plan.steps);
        let entry = |kind, step, note| Entry { kind, step, payload: None, note };
        steps
            .filter_map(|((step, now), plan)| match now {
                Step::Acting
                    if plan.on_crash == OnCrash::Undo && plan.kind == Kind::Compensatable =>
                {
                    let note = Some("its worker vanished".to_owned());
                    Some(entry(EntryKind::ActionInDoubt, step, note))
                }
                Step::Acting => Some(entry(EntryKind::ActionStarted, step, None)),
                Step::Undoing { .. } => Some(entry(EntryKind::UndoStarted, step, None)),
                _ => None,
            })
            .collect()
    }

    fn check_definition(&self, record: &Record<F::Encoded>) -> Result<(), SagaError> {
        let definition = &self.core.definition.inner;
        let shape = record.entries.first().and_then(|entry| entry.note.as_deref());
        let (name, version) = (definition.name.as_str(), definition.version);
        let same = (record.definition.as_str(), record.version) == (name, version)
            && record.codec == F::NAME
            && shape.is_none_or(|shape| shape == definition.shape);
        if same {
            return Ok(());
        }
        Err(SagaError::DefinitionChanged {
            saga: record.id,
            recorded: format!(
                "{} version {} ({}) {}",
                record.definition,
                record.version,
                record.codec,
                shape.unwrap_or_default()
            ),
            known: format!("{name} version {version} ({}) {}", F::NAME, definition.shape),
        })
    }

    /// An instant of the clock for a wall time.
    fn instant(&self, unix: Duration) -> Instant {
        let clock = &self.core.config.clock;
        let (now, wall) = (clock.now(), clock.unix());
        clock::after(now, unix.saturating_sub(wall))
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

    /// An operator: lets a stuck saga try again what it is stuck at.
    ///
    /// # Errors
    /// It is not stuck, or the store failed.
    pub async fn retry(&self, saga: SagaId) -> Result<Execution, SagaError> {
        self.decide(saga, |step, _| {
            let stuck = matches!(step, Step::UndoFailed { .. } | Step::InDoubt | Step::Failed);
            stuck.then_some((EntryKind::Retried, None))
        })
        .await
    }

    /// An operator: lets failed undos of a stuck saga be, as if they had been done.
    ///
    /// # Errors
    /// It is not stuck at an undo, or the store failed.
    pub async fn skip(&self, saga: SagaId) -> Result<Execution, SagaError> {
        self.decide(saga, |step, _| {
            matches!(step, Step::UndoFailed { .. }).then_some((EntryKind::Skipped, None))
        })
        .await
    }

    /// An operator: says what became of the action of `step` that a stuck saga does not know.
    ///
    /// # Errors
    /// It is not stuck at that step, the output cannot be encoded, or the store failed.
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
        let (kind, payload) = match resolution {
            Resolution::DidNotHappen => (EntryKind::DidNotHappen, None),
            Resolution::Happened(output) => {
                let payload = self.core.definition.inner.codec.encode(&Arc::new(output));
                let payload = payload.map_err(|error| SagaError::Input { saga, error })?;
                (EntryKind::Happened, Some(payload))
            }
        };
        self.decide(saga, |now, number| {
            let stuck = match kind {
                EntryKind::Happened => matches!(now, Step::InDoubt | Step::Failed),
                _ => now == Step::InDoubt,
            };
            (stuck && number == step.number()).then(|| (kind, payload.clone()))
        })
        .await
    }

    /// Takes a stuck saga over with what `decision` says of its steps.
    async fn decide(
        &self,
        saga: SagaId,
        decision: impl Fn(Step, u16) -> Option<(EntryKind, Option<F::Encoded>)>,
    ) -> Result<Execution, SagaError> {
        let core = &self.core;
        let store = |error| SagaError::Store { saga, error };
        let not = |why: &str| SagaError::NotPossible { saga, why: why.to_owned() };
        if core.is_shutting_down() {
            return Err(SagaError::ShutDown { saga });
        }
        lease::begin(core).await.map_err(store)?;
        // Looked at before it is taken: what cannot be decided is left to whoever owns it.
        let record = core.store.load(saga).await.map_err(store)?;
        let record = record.ok_or_else(|| not("there is no such saga"))?;
        self.check_definition(&record)?;
        if record.status != Status::Stuck {
            return Err(not(&format!("it is {}, not stuck", record.status.as_str())));
        }
        let taken = core.store.take(core.lease.worker, saga).await.map_err(store)?;
        let record = taken.ok_or_else(|| not("another worker has it"))?;
        let state = State::fold(core.definition.inner.steps.len(), &record.entries);
        let state = state.map_err(|why| SagaError::Corrupt { saga, why })?;
        let entries = (0u16..).zip(&state.steps).filter_map(|(step, now)| {
            let (kind, payload) = decision(*now, step)?;
            Some(Entry { kind, step, payload, note: Some("by an operator".to_owned()) })
        });
        let entries: Vec<_> = entries.collect();
        if !state.stuck || entries.is_empty() {
            return Err(not("it is not stuck at that"));
        }
        self.resume(record, entries)
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
            started: sum(STARTED),
            resumed: sum(RESUMED),
            completed: sum(COMPLETED),
            compensated: sum(COMPENSATED),
            stuck: sum(STUCK),
            fenced: sum(FENCED),
            steps_executed: sum(EXECUTED),
            steps_failed: sum(FAILED),
            compensations_executed: sum(UNDONE),
            compensations_failed: sum(UNDO_FAILED),
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
