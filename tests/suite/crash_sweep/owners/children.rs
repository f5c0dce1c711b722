//! Workers that run parents and their children in one store, with all faults between them and the store.

use std::sync::Arc;
use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{Rng, VirtualClock};
use buttress_durable::saga::{
    Builder, Call, Config, Definition, Direction, Executor, Kind, MemoryStore, Page, SagaId,
    Status, StepHandle, Store,
};
use buttress_sim::Seed;
use buttress_sim::crash::{Lived, Process, Schedule, Trouble, each_seed, each_trouble};
use tower::service_fn;

use super::super::{executor, operations};
use super::participants::Way::{self, Fine, LoseAnswer, Refuse, Stumble};
use super::participants::{Failed, World};
use super::store::{History, Troubles};
use super::workers::{LEASE, Worker, cancel};

const ID: SagaId = SagaId::new(1);
/// The time by which all work ends.
const HORIZON: Duration = Duration::from_secs(900);
/// The time by which a worker acts that should no longer act.
const AFTERWARDS: Duration = Duration::from_secs(70);
const RECOVERS: Duration = Duration::from_millis(1900);

#[derive(Clone)]
struct Scenario {
    processes: u32,
    /// The first step of the parent, both steps of the child, and the last step of the parent.
    ways: [Vec<Way>; 4],
    /// The kind of the step that runs the child, and of the last step.
    kinds: (Kind, Kind),
    /// The time of a participant.
    takes: Duration,
    /// How long the child waits between its steps.
    waits: Option<Duration>,
    deadline: Option<Duration>,
    /// The time at which the last worker cancels the parent.
    cancel: Option<Duration>,
    ties: Option<u64>,
}

fn scenario(first: Way, last: Way) -> Scenario {
    let (child, kind) = (Kind::Compensatable, Kind::Compensatable);
    Scenario {
        processes: 2,
        ways: [vec![Fine], vec![Fine], vec![first], vec![last]],
        kinds: (child, kind),
        takes: Duration::ZERO,
        waits: None,
        deadline: None,
        cancel: None,
        ties: None,
    }
}

fn drawn(seed: Seed) -> Scenario {
    let rng = seed.named("scenario");
    let one_of = |count: u64| rng.between(0, count - 1);
    let way = |last: bool| match one_of(5) {
        0 => vec![LoseAnswer],
        1 if last => vec![Refuse],
        _ => vec![Fine],
    };
    let ways = [way(false), way(false), way(true), way(true)];
    let child = if one_of(4) == 0 { Kind::Pivot } else { Kind::Compensatable };
    let last = match child {
        Kind::Pivot => Kind::Retryable,
        _ if one_of(2) == 0 => Kind::Pivot,
        _ => Kind::Compensatable,
    };
    let mut ways = ways;
    if last != Kind::Compensatable {
        ways[3] = vec![Stumble, if last == Kind::Pivot && one_of(3) == 0 { Refuse } else { Fine }];
    }
    Scenario {
        processes: 2 + one_of(2) as u32,
        ways,
        kinds: (child, last),
        takes: Duration::from_millis([0, 50, 4_000, 15_000][one_of(4) as usize]),
        waits: (one_of(3) == 0)
            .then(|| Duration::from_millis([400, 9_000, 31_000][one_of(3) as usize])),
        deadline: (one_of(4) == 0).then(|| Duration::from_secs(10 + one_of(50))),
        cancel: (one_of(3) == 0).then(|| Duration::from_secs(one_of(40))),
        ties: Some(rng.next_u64()),
    }
}

/// What the workers of a run share. It outlives them.
struct Shared {
    world: World,
    store: MemoryStore,
    history: History,
    time: VirtualClock,
}

impl Shared {
    fn step(
        &self,
        (saga, name, kind): (&mut Builder<u32>, &'static str, Kind),
        ways: &[Way],
        takes: Duration,
        process: &Process,
    ) -> StepHandle<u32> {
        let (acting, clock, number) = (self.world.clone(), process.clock(), process.number());
        let ways = ways.to_vec();
        let act = service_fn(move |call: Call<u32>| {
            let answer = acting.act(number, call.key().saga(), name, &ways);
            let clock = clock.clone();
            async move {
                clock.sleep(takes).await;
                answer
            }
        });
        let step = saga.step(name).kind(kind).action((), act, |input: &u32, ()| *input);
        let step = step.definite(|failed: &Failed| failed.0 == Refuse);
        if kind != Kind::Compensatable {
            return step.add();
        }
        let undoing = self.world.clone();
        let undo = service_fn(move |call: Call<u32>| {
            assert_eq!(call.key().direction(), Direction::Undo);
            std::future::ready(undoing.undo(number, call.key().saga(), name, 0))
        });
        step.undo((), undo, |input: &u32, (), _| *input).add()
    }

    fn executor(&self, saga: Builder<u32>, config: Config, process: &Process) -> Worker {
        let troubles = Troubles {
            store: self.store.clone(),
            process: process.clone(),
            ledger: self.world.ledger.clone(),
            history: self.history.clone(),
            clock: self.time.clock(),
        };
        let config = config
            .lease(LEASE)
            .run_again(9, Backoff::fixed(Duration::from_secs(3)))
            .clock(process.clock())
            .rng(Rng::seeded(u64::from(process.number())))
            .spawner(process.spawner())
            .keep_forever();
        Executor::new(saga.build().unwrap(), troubles.into_store(), config).unwrap()
    }

    /// Returns the executors of a worker: of the parents, and of the children.
    fn worker(&self, scenario: &Scenario, process: &Process) -> [Worker; 2] {
        let takes = scenario.takes;
        let [first, pick, book, last] = &scenario.ways;
        let mut saga = Definition::builder("child", 1).can_be_child();
        let picked = self.step((&mut saga, "pick", Kind::Compensatable), pick, takes, process);
        if let Some(waits) = scenario.waits {
            saga.step("wait").wait(move |_, ()| waits);
        }
        self.step((&mut saga, "book", Kind::Compensatable), book, takes, process);
        let children = self.executor(saga, Config::new(), process);
        let mut saga = Definition::builder("parent", 1);
        self.step((&mut saga, "first", Kind::Compensatable), first, takes, process);
        let ship = saga.step("ship").kind(scenario.kinds.0);
        ship.child(&children, |input: &u32, ()| *input, picked);
        self.step((&mut saga, "last", scenario.kinds.1), last, takes, process);
        let mut config = Config::new();
        if let Some(deadline) = scenario.deadline {
            config = config.deadline(deadline);
        }
        [self.executor(saga, config, process), children]
    }
}

/// Recovers what other workers left, for as long as the process lives.
fn recover(process: &Process, sagas: Worker, after: Duration) {
    let own = process.clone();
    process.spawner().spawn(async move {
        loop {
            own.clock().sleep(RECOVERS + after).await;
            if let Some(Ok(recovery)) = own.call(sagas.recover()).await {
                assert!(recovery.left.is_empty(), "{recovery:?}");
            }
        }
    });
}

fn run(scenario: &Scenario, schedule: &Schedule) -> Lived {
    let time = VirtualClock::new();
    let mut executor = executor(&time, scenario.ties);
    let shared = Arc::new(Shared {
        world: World::new(),
        store: MemoryStore::new(time.clock()),
        history: History::default(),
        time: time.clone(),
    });
    let mut processes = Vec::new();
    for number in 1..=scenario.processes {
        let process = Process::new(number, &time, executor.spawner(), schedule);
        let [parents, children] = shared.worker(scenario, &process);
        if number == 1 {
            let (own, parents) = (process.clone(), parents.clone());
            process.spawner().spawn(async move {
                // Repeated until the store has it. The process may crash before.
                while let Some(Err(_)) = own.call(parents.start_as(ID, 7)).await {
                    own.clock().sleep(Duration::from_secs(1)).await;
                }
            });
        }
        if let Some(at) = scenario.cancel.filter(|_| number == scenario.processes) {
            cancel(&process, &parents, at);
        }
        recover(&process, parents, Duration::from_millis(u64::from(number)));
        recover(&process, children, Duration::from_millis(10 + u64::from(number)));
        processes.push(process);
    }
    let clock = time.clock();
    let run = async {
        while time.elapsed() < HORIZON && !have_ended(&shared, &processes[0]).await {
            clock.sleep(Duration::from_secs(2)).await;
        }
        let operations = operations(&processes);
        clock.sleep(AFTERWARDS).await;
        Lived { operations, verdict: check(&shared).await }
    };
    executor.block_on(run).unwrap()
}

/// Whether all sagas have ended, or the parent will never be in the store.
async fn have_ended(shared: &Shared, starter: &Process) -> bool {
    let all = shared.store.list(Page::first(10)).await.unwrap();
    let is_begun = all.iter().any(|saga| saga.id == ID) || starter.has_crashed();
    is_begun && all.iter().all(|saga| saga.status.is_ended())
}

/// Checks that the child ended as its parent did, and that the effects agree with the logs.
async fn check(shared: &Shared) -> Result<(), String> {
    let ledger = &shared.world.ledger;
    let all = shared.store.list(Page::first(10)).await.unwrap();
    let parent = all.iter().find(|saga| saga.id == ID).map(|saga| saga.status);
    for saga in &all {
        let record = shared.store.load(saga.id).await.unwrap().unwrap();
        if !saga.status.is_ended() {
            let entries = &record.entries;
            ledger.stands_still(saga.id, format!("{:?} {entries:?}", saga.status));
        } else if Some(saga.status) != parent {
            let (status, entries) = (saga.status, &record.entries);
            ledger.violated(format!("{status:?} beside {parent:?}: {entries:?}"));
        }
        let times = i64::from(saga.status == Status::Completed);
        let steps = if saga.id == ID { ["first", "last"] } else { ["pick", "book"] };
        steps.iter().for_each(|step| ledger.recorded(saga.id, step, times));
    }
    if parent == Some(Status::Completed) && all.len() != 2 {
        ledger.violated(format!("the child is missing: {all:?}"));
    }
    ledger.check()
}

fn sweep(scenario: &Scenario) {
    let runs = each_trouble(&Trouble::around(LEASE), |schedule| run(scenario, schedule));
    assert!(runs.unwrap_or_else(|broken| panic!("{broken}")) > 100);
}

#[test]
fn a_trouble_leaves_parent_and_child_alike() {
    sweep(&scenario(Fine, Fine));
}

#[test]
fn a_trouble_leaves_a_child_that_its_parent_undoes_without_effect() {
    sweep(&scenario(Fine, Refuse));
}

#[test]
fn a_trouble_during_a_cancel_leaves_parent_and_child_alike() {
    let takes = Duration::from_secs(4);
    sweep(&Scenario { takes, cancel: Some(takes * 2), ..scenario(Fine, Fine) });
}

#[test]
fn any_seed_leaves_parent_and_child_alike() {
    let runs = each_seed(300, |seed| {
        let scenario = drawn(seed);
        let rng = seed.named("schedule");
        let schedule = Schedule::random(&rng, scenario.processes, 60, LEASE, 4);
        let lived = run(&scenario, &schedule);
        (schedule, lived)
    });
    runs.unwrap_or_else(|broken| panic!("{broken}"));
}
