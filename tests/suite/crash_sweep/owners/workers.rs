//! One run: workers that share a store, and the final check.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{Rng, StoreErrorKind, VirtualClock};
use buttress_durable::saga::{
    Call, Config, Definition, Direction, Executor, Kind, MemoryStore, SagaError, SagaId, Status,
    Store,
};
use buttress_sim::crash::{Ledger, Lived, Process, Schedule};
use tower::layer::layer_fn;
use tower::service_fn;

use super::participants::{Failed, Persistent, Way, World};
use super::store::Troubled;

pub(super) const LEASE: Duration = Duration::from_secs(10);
/// The time by which all work ends.
const HORIZON: Duration = Duration::from_secs(600);
/// The time by which a worker acts that should no longer act.
const AFTERWARDS: Duration = Duration::from_secs(70);

pub(super) type Step = (&'static str, Kind, Vec<Way>);

#[derive(Clone)]
pub(super) struct Scenario {
    pub(super) processes: u32,
    pub(super) sagas: u128,
    pub(super) steps: Vec<Step>,
    /// The time between two attempts.
    pub(super) backoff: Duration,
    /// The time of a participant.
    pub(super) takes: Duration,
    /// `None` keeps the order in which tasks become ready.
    pub(super) ties: Option<u64>,
    pub(super) deadline: Option<Duration>,
    /// The wait of a layer around each action before it retries.
    pub(super) layer: Option<Duration>,
    /// The number of undos of each step that fail first.
    pub(super) failed_undos: usize,
    /// The time at which the last worker requests the cancellation of the first saga.
    pub(super) cancel: Option<Duration>,
}

type Worker = Executor<u32, buttress::InMemory, Troubled>;

fn worker(scenario: &Scenario, world: &World, store: &MemoryStore, process: &Process) -> Worker {
    let number = process.number();
    let mut saga = Definition::<u32>::builder("trouble", 1);
    for (step, kind, ways) in scenario.steps.clone() {
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
    let store =
        Troubled { store: store.clone(), process: process.clone(), ledger: world.ledger.clone() };
    Executor::new(saga.build().unwrap(), store, config).unwrap()
}

/// Runs the scenario: the first worker starts the sagas, and all workers recover what they find.
pub(super) fn run(scenario: &Scenario, schedule: &Schedule) -> Lived {
    let time = VirtualClock::new();
    let mut executor = buttress_sim::Executor::new(&time);
    if let Some(seed) = scenario.ties {
        executor = executor.vary_ties(Rng::seeded(seed));
    }
    let store = MemoryStore::new(time.clock());
    let world = World { ledger: Ledger::new(), participants: Arc::default() };
    let started: Arc<Mutex<Vec<SagaId>>> = Arc::default();
    let mut processes = Vec::new();
    for number in 1..=scenario.processes {
        let process = Process::new(number, &time, executor.spawner(), schedule);
        let sagas = worker(scenario, &world, &store, &process);
        if number == 1 {
            for id in 1..=scenario.sagas {
                let (process, sagas, started) = (process.clone(), sagas.clone(), started.clone());
                let spawner = process.spawner();
                spawner
                    .spawn(async move { start(&process, &sagas, SagaId::new(id), &started).await });
            }
        }
        if let Some(at) = scenario.cancel.filter(|_| number == scenario.processes) {
            let (process, sagas) = (process.clone(), sagas.clone());
            let spawner = process.spawner();
            spawner.spawn(async move {
                process.clock().sleep(at).await;
                process.call(sagas.cancel(SagaId::new(1))).await;
            });
        }
        let recovering = process.clone();
        process.spawner().spawn(async move {
            let mut known = Vec::new();
            loop {
                recovering.clock().sleep(Duration::from_millis(1900 + u64::from(number))).await;
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
        while time.elapsed() < HORIZON && !has_ended(scenario, &store).await {
            clock.sleep(Duration::from_secs(2)).await;
        }
        let operations = |process: &Process| process.operations().len() as u64;
        let operations = processes.iter().map(operations).collect();
        clock.sleep(AFTERWARDS).await;
        Lived { operations, verdict: check(scenario, &world, &store, &started).await }
    };
    executor.block_on(run).unwrap()
}

async fn has_ended(scenario: &Scenario, store: &MemoryStore) -> bool {
    for id in 1..=scenario.sagas {
        let record = store.load(SagaId::new(id)).await.unwrap();
        if !record.is_some_and(|record| record.status.is_ended()) {
            return false;
        }
    }
    true
}

/// Starts the saga until the store has it.
async fn start(process: &Process, sagas: &Worker, id: SagaId, started: &Mutex<Vec<SagaId>>) {
    loop {
        let known = match process.call(sagas.start_as(id, 7)).await {
            Some(Ok(_)) => true,
            Some(Err(SagaError::Store { error, .. })) => error.kind() == StoreErrorKind::Conflict,
            _ => false,
        };
        if known {
            return started.lock().unwrap().push(id);
        }
        process.clock().sleep(Duration::from_secs(1)).await;
    }
}

async fn check(
    scenario: &Scenario,
    world: &World,
    store: &MemoryStore,
    started: &Mutex<Vec<SagaId>>,
) -> Result<(), String> {
    for id in (1..=scenario.sagas).map(SagaId::new) {
        let Some(record) = store.load(id).await.unwrap() else {
            if started.lock().unwrap().contains(&id) {
                world.ledger.stands_still(id, "the store has lost it");
            }
            continue;
        };
        if !record.status.is_ended() {
            world.ledger.stands_still(id, format!("{:?} {:?}", record.status, record.entries));
        }
        let times = i64::from(record.status == Status::Completed);
        scenario.steps.iter().for_each(|(step, ..)| world.ledger.recorded(id, step, times));
    }
    world.ledger.check()
}
