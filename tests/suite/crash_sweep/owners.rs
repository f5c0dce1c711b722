//! Several workers of one store of sagas, and all that can go wrong between them and it: the worker that stands
//! still, the answer that comes late or never, the clock that jumps, the future that is dropped half-way.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{Clock, InMemoryValue, Rng, StoreError, StoreErrorKind, VirtualClock};
use buttress_durable::saga::{
    Append, Appended, Call, Config, Definition, Direction, Executor, Kind, MemoryStore, NewSaga,
    Record, SagaError, SagaId, Status, Store, Summary, TakenOver, WorkerId,
};
use buttress_sim::Seed;
use buttress_sim::crash::{
    Ledger, Lived, Process, Schedule, Trouble, each_pair, each_seed, each_trouble,
};
use tower::layer::layer_fn;
use tower::{Service, service_fn};

const LEASE: Duration = Duration::from_secs(10);
/// Long enough for everything to end.
const HORIZON: Duration = Duration::from_secs(600);
/// Long enough for a worker to act that should not act any more.
const AFTERWARDS: Duration = Duration::from_secs(70);

/// What the participant does with the n-th call of one step.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Fine,
    /// A definite refusal, if it has no effect yet.
    Refuse,
    /// It does its work, and its answer is lost.
    LoseAnswer,
    /// It does nothing, and does not say so.
    Stumble,
}

use Way::{Fine, LoseAnswer, Refuse, Stumble};

#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
struct Failed(Way);

type Step = (&'static str, Kind, Vec<Way>);

#[derive(Clone)]
struct Scenario {
    processes: u32,
    sagas: u128,
    steps: Vec<Step>,
    /// Between two attempts.
    backoff: Duration,
    /// How long a participant takes to answer.
    takes: Duration,
    /// `None` keeps the order in which tasks become ready.
    ties: Option<u64>,
    deadline: Option<Duration>,
    /// How long a layer inside of each action waits before it tries again.
    layer: Option<Duration>,
    /// How many undos of each step fail first.
    failed_undos: usize,
    /// When the last worker asks for the first saga to be cancelled.
    cancel: Option<Duration>,
}

/// What the participants have seen. It outlives the workers.
#[derive(Clone)]
struct World {
    ledger: Ledger,
    participants: Arc<Mutex<BTreeMap<(SagaId, &'static str), Participant>>>,
}

#[derive(Default)]
struct Participant {
    calls: usize,
    undos: usize,
    done: bool,
    undone: bool,
}

impl World {
    fn act(
        &self,
        worker: u32,
        saga: SagaId,
        step: &'static str,
        ways: &[Way],
    ) -> Result<u32, Failed> {
        self.ledger.called(saga, worker, format!("action {step}"));
        let mut participants = self.participants.lock().unwrap();
        let participant = participants.entry((saga, step)).or_default();
        if participant.undone {
            return Err(Failed(Refuse));
        }
        let way = ways[participant.calls.min(ways.len() - 1)];
        participant.calls += 1;
        match way {
            _ if participant.done => {}
            Refuse | Stumble => return Err(Failed(way)),
            Fine | LoseAnswer => {
                participant.done = true;
                self.ledger.effect(saga, step, 1);
            }
        }
        if way == LoseAnswer { Err(Failed(way)) } else { Ok(1) }
    }

    fn undo(
        &self,
        worker: u32,
        saga: SagaId,
        step: &'static str,
        fail: usize,
    ) -> Result<u32, Failed> {
        self.ledger.called(saga, worker, format!("undo {step}"));
        let mut participants = self.participants.lock().unwrap();
        let participant = participants.entry((saga, step)).or_default();
        participant.undos += 1;
        if participant.undos <= fail {
            return Err(Failed(Stumble));
        }
        if std::mem::take(&mut participant.done) {
            self.ledger.effect(saga, step, -1);
        }
        participant.undone = true;
        Ok(0)
    }
}

/// A layer of the user's that tries an action again, inside of one execution of the step.
#[derive(Clone)]
struct Persistent<S> {
    inner: S,
    clock: Clock,
    wait: Option<Duration>,
}

impl<S> Service<Call<u32>> for Persistent<S>
where
    S: Service<Call<u32>, Response = u32, Error = Failed> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = u32;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<u32, Failed>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call<u32>) -> Self::Future {
        let Self { mut inner, clock, wait } = self.clone();
        Box::pin(async move {
            let mut left = 2;
            loop {
                poll_fn(|cx| inner.poll_ready(cx)).await?;
                match (inner.call(call.clone()).await, wait) {
                    (Err(Failed(Stumble | LoseAnswer)), Some(wait)) if left > 0 => {
                        left -= 1;
                        clock.sleep(wait).await;
                    }
                    (answer, _) => return answer,
                }
            }
        })
    }
}

/// A store of one worker. It tells the ledger who owns what in the moment of each effect.
#[derive(Clone)]
struct Troubled {
    store: MemoryStore,
    process: Process,
    ledger: Ledger,
}

impl Store<InMemoryValue> for Troubled {
    async fn renew(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        let store = self.store.clone();
        self.process.operation("renew", async move { store.renew(worker, lease).await }).await
    }

    async fn retire(&self, worker: WorkerId) -> Result<(), StoreError> {
        let store = self.store.clone();
        self.process.operation("retire", async move { store.retire(worker).await }).await
    }

    async fn create(&self, saga: NewSaga<InMemoryValue>) -> Result<(), StoreError> {
        let Self { store, process, ledger } = self.clone();
        let number = process.number();
        let create = async move {
            let id = saga.id;
            let known = store.load(id).await?.is_some();
            store.create(saga).await?;
            if !known {
                ledger.owned(id, number);
            }
            Ok(())
        };
        self.process.operation("create", create).await
    }

    async fn append(&self, append: Append<InMemoryValue>) -> Result<Appended, StoreError> {
        let store = self.store.clone();
        self.process.operation("append", async move { store.append(append).await }).await
    }

    async fn take_over(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<TakenOver<InMemoryValue>, StoreError> {
        let Self { store, process, ledger } = self.clone();
        let (definition, number) = (definition.to_owned(), process.number());
        let take_over = async move {
            let taken = store.take_over(worker, &definition, version, limit).await?;
            taken.sagas.iter().for_each(|record| ledger.owned(record.id, number));
            Ok(taken)
        };
        self.process.operation("take over", take_over).await
    }

    async fn take(
        &self,
        worker: WorkerId,
        saga: SagaId,
    ) -> Result<Option<Record<InMemoryValue>>, StoreError> {
        let Self { store, process, ledger } = self.clone();
        let number = process.number();
        let take = async move {
            let taken = store.take(worker, saga).await?;
            taken.iter().for_each(|record| ledger.owned(record.id, number));
            Ok(taken)
        };
        self.process.operation("take", take).await
    }

    async fn owned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
    ) -> Result<Vec<SagaId>, StoreError> {
        let (store, definition) = (self.store.clone(), definition.to_owned());
        let owned = async move { store.owned(worker, &definition, version).await };
        self.process.operation("owned", owned).await
    }

    async fn load(&self, saga: SagaId) -> Result<Option<Record<InMemoryValue>>, StoreError> {
        let store = self.store.clone();
        self.process.operation("load", async move { store.load(saga).await }).await
    }

    async fn request_cancel(&self, saga: SagaId) -> Result<bool, StoreError> {
        let store = self.store.clone();
        self.process.operation("cancel", async move { store.request_cancel(saga).await }).await
    }

    async fn list(
        &self,
        status: Option<Status>,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        let store = self.store.clone();
        self.process.operation("list", async move { store.list(status, after, limit).await }).await
    }

    async fn purge(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        self.store.purge(age, limit).await
    }
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
            .definite(|failed: &Failed| failed.0 == Refuse);
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

/// One run: the first worker starts the sagas, all recover what they find.
fn run(scenario: &Scenario, schedule: &Schedule) -> Lived {
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

/// Until the store has it.
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
                world.ledger.stands_still(id, "it is gone");
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

const C: Kind = Kind::Compensatable;

fn scenario(steps: Vec<Step>) -> Scenario {
    Scenario {
        processes: 2,
        sagas: 1,
        steps,
        backoff: Duration::from_secs(30),
        takes: Duration::ZERO,
        ties: None,
        deadline: None,
        layer: None,
        failed_undos: 0,
        cancel: None,
    }
}

/// Steps as a seed draws them: some go through, some are refused, all end.
fn drawn(seed: Seed) -> Scenario {
    let rng = seed.named("scenario");
    let one_of = |count: u64| rng.between(0, count - 1);
    let mut steps: Vec<Step> = Vec::new();
    let stumbling = |last: Way| {
        let mut ways: Vec<Way> =
            (0..one_of(3)).map(|_| if one_of(2) == 0 { Stumble } else { LoseAnswer }).collect();
        ways.push(last);
        ways
    };
    let compensatable = |last| if one_of(4) == 0 { vec![LoseAnswer] } else { vec![last] };
    steps.push(("a", C, compensatable(Fine)));
    if one_of(2) == 0 {
        steps.push(("b", C, compensatable(if one_of(3) == 0 { Refuse } else { Fine })));
    }
    if one_of(4) > 0 {
        let mut ways = stumbling(if one_of(2) == 0 { Refuse } else { Fine });
        // A participant that refuses does not do so forever.
        ways.push(Fine);
        steps.push(("p", Kind::Pivot, ways));
    }
    if one_of(2) == 0 {
        steps.push(("r", Kind::Retryable, stumbling(Fine)));
    }
    Scenario {
        processes: 2 + one_of(2) as u32,
        sagas: 1 + u128::from(one_of(3)),
        steps,
        backoff: Duration::from_millis([100, 3_000, 12_000, 30_000][one_of(4) as usize]),
        takes: Duration::from_millis([0, 50, 4_000, 15_000][one_of(4) as usize]),
        ties: Some(rng.next_u64()),
        deadline: (one_of(4) == 0).then(|| Duration::from_secs(60)),
        layer: (one_of(3) == 0).then(|| Duration::from_secs(13)),
        failed_undos: one_of(3) as usize,
        cancel: (one_of(3) == 0).then(|| Duration::from_secs(one_of(20))),
    }
}

/// A pivot is in doubt, its worker stands still, another worker is refused, and the first goes on. The sweep
/// found that a worker forgets a lapse of its lease once it has renewed it.
#[test]
fn a_pivot_in_doubt_does_not_run_for_a_worker_that_lost_it() {
    let pivot = ("p", Kind::Pivot, vec![Stumble, Refuse, Fine]);
    let scenario = scenario(vec![("a", C, vec![Fine]), pivot]);
    let runs = each_trouble(&Trouble::around(LEASE), |schedule| run(&scenario, schedule));
    assert!(runs.unwrap_or_else(|broken| panic!("{broken}")) > 1_000);
}

/// The same inside of one execution: a layer of the step's waits, and tries again.
#[test]
fn a_layer_that_tries_again_does_not_reach_the_service_for_a_worker_that_lost_the_saga() {
    let steps = vec![("a", C, vec![Fine]), ("p", Kind::Pivot, vec![Stumble, Refuse, Fine])];
    let scenario = Scenario { layer: Some(Duration::from_secs(13)), ..scenario(steps) };
    let runs = each_trouble(&Trouble::around(LEASE), |schedule| run(&scenario, schedule));
    runs.unwrap_or_else(|broken| panic!("{broken}"));
}

/// The same on the way back.
#[test]
fn an_undo_that_failed_does_not_run_again_for_a_worker_that_lost_the_saga() {
    let steps = vec![("a", C, vec![Fine]), ("b", C, vec![Refuse])];
    let scenario = Scenario { failed_undos: 1, ..scenario(steps) };
    let runs = each_trouble(&Trouble::around(LEASE), |schedule| run(&scenario, schedule));
    runs.unwrap_or_else(|broken| panic!("{broken}"));
}

/// The sweep found that a take-over whose answer is lost orphans its sagas in a worker that lives.
#[test]
fn two_troubles_leave_every_saga_whole_and_owned() {
    let steps = vec![("a", C, vec![Fine]), ("b", C, vec![Fine]), ("c", C, vec![LoseAnswer])];
    // So long that a worker is gone before it has ended.
    let scenario = Scenario { takes: Duration::from_secs(5), ..scenario(steps) };
    let runs = each_pair(&Trouble::around(LEASE), 211, |schedule| run(&scenario, schedule));
    let runs = runs.unwrap_or_else(|broken| panic!("{broken}"));
    assert!(runs > 500, "{runs}");
}

/// The first worker crashes, and whatever the second asks the store for while it takes over: the answer is lost,
/// comes after the lease, or its future is dropped.
#[test]
fn a_take_over_that_nobody_heard_of_is_adopted() {
    let steps = vec![("a", C, vec![Fine]), ("b", C, vec![Fine])];
    let scenario = Scenario { takes: Duration::from_secs(5), ..scenario(steps) };
    let crash = "1/2/after/crash/0";
    for operation in 1..60 {
        for trouble in ["lost/0", "lost/11000", "late/11000", "drop/0", "freeze/11000"] {
            let schedule = format!("{crash},2/{operation}/after/{trouble}");
            let lived = run(&scenario, &schedule.parse().unwrap());
            assert_eq!(lived.verdict, Ok(()), "{schedule}");
        }
    }
}

#[test]
fn any_seed_leaves_every_saga_whole_and_owned() {
    let runs = each_seed(300, |seed| {
        let scenario = drawn(seed);
        let schedule = Schedule::random(&seed.named("schedule"), scenario.processes, 30, LEASE, 4);
        let lived = run(&scenario, &schedule);
        (schedule, lived)
    });
    runs.unwrap_or_else(|broken| panic!("{broken}"));
}
