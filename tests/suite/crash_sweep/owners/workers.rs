//! One run: workers that share a store, and the final check.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use buttress::retry::Backoff;
use buttress::{Clock, Rng, StoreErrorKind, VirtualClock};
use buttress_durable::outbox;
use buttress_durable::saga::{
    Call, Config, Definition, Direction, Executor, Kind, MemoryStore, SagaError, SagaId, Status,
    Store,
};
use buttress_sim::crash::{Lived, Process, Schedule};
use tower::layer::layer_fn;
use tower::service_fn;

use super::super::{executor, operations};
use super::participants::{Failed, Persistent, Way, World};
use super::signals::Signal;
use super::store::{History, Troubled, Troubles};

pub(super) const LEASE: Duration = Duration::from_secs(10);
/// The time by which all work ends.
const HORIZON: Duration = Duration::from_secs(600);
/// The time by which a worker acts that should no longer act.
const AFTERWARDS: Duration = Duration::from_secs(70);
/// How long a request may be in progress after its caller is gone.
const UNDER_WAY: Duration = Duration::from_secs(30);

pub(super) type Step = (&'static str, Kind, Vec<Way>);

#[derive(Clone)]
pub(super) struct Scenario {
    pub processes: u32,
    pub sagas: u128,
    pub steps: Vec<Step>,
    /// The time between two attempts.
    pub backoff: Duration,
    /// The time of a participant.
    pub takes: Duration,
    /// `None` keeps the order in which tasks become ready.
    pub ties: Option<u64>,
    pub deadline: Option<Duration>,
    /// The wait of a layer around each action before it retries.
    pub layer: Option<Duration>,
    /// The number of undos of each step that fail first.
    pub failed_undos: usize,
    /// The time at which the last worker requests the cancellation of the first saga.
    pub cancel: Option<Duration>,
    /// The time between the starts of two sagas.
    pub apart: Duration,
    /// How long ended sagas are kept; `None` forever. A saga is started once then, because a later start under
    /// its id may run it again.
    pub retention: Option<Duration>,
    /// How often workers recover.
    pub recovers: Duration,
    /// Whether the first worker starts its sagas in transactions.
    pub in_transaction: bool,
    /// How long each saga waits after its first step.
    pub waits: Option<Duration>,
    /// The signal for which each saga waits then.
    pub signal: Option<Signal>,
}

impl Scenario {
    /// The time that the run continues after the last saga has ended.
    fn afterwards(&self) -> Duration {
        // A purge may be late by a lost answer, and look again at a tenth of the retention.
        let purged = |kept: Duration| kept + kept / 5 + PATIENCE + UNDER_WAY * 2;
        self.retention.map_or(AFTERWARDS, |kept| purged(kept).max(AFTERWARDS))
    }
}

/// How long a worker that purges waits for the store. Its retention is longer by far than the time in which it
/// repeats one start.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) type Worker = Executor<u32, buttress::InMemory, Troubled>;

/// What the workers of a run share. It outlives them.
struct Shared {
    world: World,
    store: MemoryStore,
    history: History,
    clock: Clock,
    /// The store whose transactions start sagas.
    database: outbox::MemoryStore,
    /// Sagas that are known to be in the store.
    started: Mutex<BTreeSet<SagaId>>,
    /// Sagas of which the one start failed.
    failed: Mutex<BTreeSet<SagaId>>,
}

fn worker(scenario: &Scenario, shared: &Shared, process: &Process) -> Worker {
    let world = &shared.world;
    let number = process.number();
    let mut saga = Definition::<u32>::builder("trouble", 1);
    for (at, (step, kind, ways)) in scenario.steps.iter().cloned().enumerate() {
        if let Some(waits) = scenario.waits.filter(|_| at == 1) {
            saga.step("wait").wait(move |_, ()| waits);
        }
        if let Some(signal) = scenario.signal.filter(|_| at == 1) {
            signal.add_step(&mut saga);
        }
        let (takes, clock) = (scenario.takes, process.clock());
        let (wait, fail) = (scenario.layer, scenario.failed_undos);
        let layer_clock = clock.clone();
        let layer = layer_fn(move |inner| Persistent { inner, clock: layer_clock.clone(), wait });
        let (acting, answering) = (world.clone(), clock.clone());
        let act = service_fn(move |call: Call<u32>| {
            let answer = acting.act(number, call.key().saga(), step, &ways);
            let clock = answering.clone();
            async move {
                clock.sleep(takes).await;
                answer
            }
        });
        let added = saga
            .step(step)
            .kind(kind)
            .action(layer, act, |input: &u32, ()| *input)
            .definite(|failed: &Failed| failed.0 == Way::Refuse);
        if kind == Kind::Compensatable {
            let undoing = world.clone();
            let undo = service_fn(move |call: Call<u32>| {
                assert_eq!(call.key().direction(), Direction::Undo);
                std::future::ready(undoing.undo(number, call.key().saga(), step, fail))
            });
            added.undo((), undo, |input: &u32, (), _| *input).add();
        } else {
            added.add();
        }
    }
    let mut config = Config::new()
        .lease(LEASE)
        .run_again(9, Backoff::fixed(scenario.backoff))
        .undo_retry(9, Backoff::fixed(scenario.backoff))
        .clock(process.clock())
        .rng(Rng::seeded(u64::from(number)))
        .spawner(process.spawner());
    if let Some(deadline) = scenario.deadline {
        config = config.deadline(deadline);
    }
    config = match scenario.retention {
        Some(retention) => config.retention(retention).patience(PATIENCE),
        None => config.keep_forever(),
    };
    let troubles = Troubles {
        store: shared.store.clone(),
        process: process.clone(),
        ledger: world.ledger.clone(),
        history: shared.history.clone(),
        clock: shared.clock.clone(),
    };
    Executor::new(saga.build().unwrap(), troubles.into_store(), config).unwrap()
}

/// Requests the cancellation of the first saga at a time.
pub(super) fn cancel(process: &Process, sagas: &Worker, at: Duration) {
    let (own, sagas) = (process.clone(), sagas.clone());
    process.spawner().spawn(async move {
        own.clock().sleep(at).await;
        own.call(sagas.cancel(SagaId::new(1))).await;
    });
}

/// Runs the scenario: the first worker starts the sagas, and all workers recover what they find.
pub(super) fn run(scenario: &Scenario, schedule: &Schedule) -> Lived {
    let time = VirtualClock::new();
    let mut executor = executor(&time, scenario.ties);
    let shared = Arc::new(Shared {
        world: World::new(),
        store: MemoryStore::new(time.clock()),
        history: History::default(),
        clock: time.clock(),
        database: outbox::MemoryStore::new(time.clock()),
        started: Mutex::default(),
        failed: Mutex::default(),
    });
    let mut processes = Vec::new();
    for number in 1..=scenario.processes {
        let process = Process::new(number, &time, executor.spawner(), schedule);
        let sagas = worker(scenario, &shared, &process);
        if number == 1 {
            for id in 1..=scenario.sagas {
                let starting = start(
                    process.clone(),
                    sagas.clone(),
                    SagaId::new(id),
                    shared.clone(),
                    scenario.clone(),
                );
                process.spawner().spawn(starting);
            }
        }
        if let Some(at) = scenario.cancel.filter(|_| number == scenario.processes) {
            cancel(&process, &sagas, at);
        }
        if let Some(signal) = scenario.signal {
            // The first one repeats the signal, a little later.
            let at = match number {
                1 => Some(signal.at + Duration::from_millis(700)),
                _ => Some(signal.at).filter(|_| number == scenario.processes),
            };
            at.into_iter().for_each(|at| signal.send(&process, &sagas, at, scenario.sagas));
        }
        let (recovering, every) = (process.clone(), scenario.recovers);
        process.spawner().spawn(async move {
            let mut known = Vec::new();
            loop {
                recovering.clock().sleep(every + Duration::from_millis(u64::from(number))).await;
                if let Some(Ok(recovery)) = recovering.call(sagas.recover()).await {
                    known.extend(recovery.left);
                }
                assert!(known.is_empty(), "{known:?}");
            }
        });
        processes.push(process);
    }
    let clock = time.clock();
    let run = async {
        let mut never = BTreeMap::new();
        while time.elapsed() < HORIZON && !has_ended(scenario, &shared, &processes[0], &mut never) {
            clock.sleep(Duration::from_secs(2)).await;
        }
        let operations = operations(&processes);
        clock.sleep(scenario.afterwards()).await;
        Lived { operations, verdict: check(scenario, &shared).await }
    };
    executor.block_on(run).unwrap()
}

/// Whether every saga has ended, or will never be in the store. `never` remembers since when that is so.
fn has_ended(
    scenario: &Scenario,
    shared: &Shared,
    starter: &Process,
    never: &mut BTreeMap<SagaId, Instant>,
) -> bool {
    let now = shared.clock.now();
    (1..=scenario.sagas).map(SagaId::new).all(|id| match shared.history.status(id) {
        Some(status) => status.is_ended(),
        None if starter.has_crashed() || shared.failed.lock().unwrap().contains(&id) => {
            now >= *never.entry(id).or_insert(now) + UNDER_WAY
        }
        None => false,
    })
}

/// Until the store has it.
async fn start(
    process: Process,
    sagas: Worker,
    id: SagaId,
    shared: Arc<Shared>,
    scenario: Scenario,
) {
    process.clock().sleep(scenario.apart * (id.get() as u32 - 1)).await;
    loop {
        let started = match scenario.in_transaction {
            true => process.call(start_in_transaction(&process, &sagas, id, &shared)).await,
            false => process.call(sagas.start_as(id, 7)).await.map(|started| started.map(drop)),
        };
        let known = match started {
            Some(Ok(()) | Err(SagaError::AlreadyStarted { .. })) => true,
            Some(Err(SagaError::Store { error, .. })) => error.kind() == StoreErrorKind::Conflict,
            _ => false,
        };
        if known {
            shared.started.lock().unwrap().insert(id);
            return;
        }
        if scenario.retention.is_some() {
            shared.failed.lock().unwrap().insert(id);
            return;
        }
        process.clock().sleep(Duration::from_secs(1)).await;
    }
}

/// The transaction is rolled back if the process crashes before the commit.
async fn start_in_transaction(
    process: &Process,
    sagas: &Worker,
    id: SagaId,
    shared: &Arc<Shared>,
) -> Result<(), SagaError> {
    let mut tx = shared.database.begin();
    let started = sagas.start_in(&mut tx, id, 7).await?;
    let own = shared.clone();
    let commit = async move {
        tx.commit();
        own.history.is(id, Status::Running, own.clock.now());
        Ok(())
    };
    let committed = process.operation("commit", commit).await;
    committed.map_err(|error| SagaError::Store { saga: id, error })?;
    drop(started.committed());
    Ok(())
}

async fn check(scenario: &Scenario, shared: &Shared) -> Result<(), String> {
    let ledger = &shared.world.ledger;
    for id in (1..=scenario.sagas).map(SagaId::new) {
        let record = shared.store.load(id).await.unwrap();
        let Some(status) = shared.history.status(id) else {
            if shared.started.lock().unwrap().contains(&id) {
                ledger.stands_still(id, "it never was in the store");
            }
            continue;
        };
        match &record {
            Some(record) if !record.status.is_ended() => {
                ledger.stands_still(id, format!("{:?} {:?}", record.status, record.entries));
            }
            Some(_) if scenario.retention.is_some() => {
                ledger.violated(format!("saga {id} is kept longer than its retention"));
            }
            None if scenario.retention.is_none() => ledger.stands_still(id, "it is gone"),
            _ => {}
        }
        if let Some(fault) = record.as_ref().and_then(|saga| Signal::fault(saga, &shared.history)) {
            ledger.violated(format!("saga {id}: {fault}"));
        }
        let times = i64::from(status == Status::Completed);
        scenario.steps.iter().for_each(|(step, ..)| ledger.recorded(id, step, times));
    }
    ledger.check()
}
