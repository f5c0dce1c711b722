//! Crashes, take-overs, leases and shut-downs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::{Clock, Spawner, Task};
use buttress_durable::saga::{
    Config, Definition, Executor, MemoryStore, OnCrash, SagaError, Status, StepStatus, Store,
};

use super::world::*;
use crate::support::ms;

/// Tasks that end together, as the tasks of a process do.
#[derive(Clone, Default)]
struct Process(Arc<Mutex<Vec<tokio::task::AbortHandle>>>);

impl Process {
    fn spawner(&self) -> Spawner {
        let process = self.clone();
        Spawner::new(move |task: Task| {
            process.0.lock().unwrap().push(tokio::spawn(task).abort_handle());
        })
    }

    async fn kill(&self) {
        for task in self.0.lock().unwrap().drain(..) {
            task.abort();
        }
        // Aborted tasks are dropped once the runtime has processed them.
        tokio::task::yield_now().await;
    }
}

fn on(store: &MemoryStore, saga: buttress_durable::saga::Builder<u32>, config: Config) -> InMemory {
    Executor::new(saga.build().unwrap(), store.clone(), config).unwrap()
}

fn two_steps(world: &World, on_crash: OnCrash) -> buttress_durable::saga::Builder<u32> {
    let mut saga = sequence(world, &[("a", &[Answer(1)])]);
    saga.step("b")
        .on_crash(on_crash)
        .action((), world.service("b", &[Answer(2)], ms(500)), |input: &u32, ()| *input)
        .undo((), world.service("undo b", &[Answer(0)], Duration::ZERO), |_, (), output| output)
        .add();
    saga
}

fn three_steps(world: &World) -> buttress_durable::saga::Builder<u32> {
    let mut saga = two_steps(world, OnCrash::RunAgain);
    saga.step("c")
        .action((), world.service("c", &[Answer(3)], Duration::ZERO), |input: &u32, ()| *input)
        .add();
    saga
}

/// Returns an executor of two steps, in a process that can be killed.
fn in_a_process(on_crash: OnCrash) -> (World, Process, MemoryStore, InMemory) {
    let (world, process) = (World::new(), Process::default());
    let store = MemoryStore::new(Clock::default());
    let first = on(&store, two_steps(&world, on_crash), config().spawner(process.spawner()));
    (world, process, store, first)
}

#[tokio::test(start_paused = true)]
async fn a_saga_goes_on_elsewhere_when_the_lease_has_run_out() {
    let (world, process, store, first) = in_a_process(OnCrash::RunAgain);
    let execution = first.start(7).await.unwrap();
    let id = execution.id();
    tokio::time::advance(ms(100)).await;
    process.kill().await;
    assert!(matches!(execution.await, Err(SagaError::ShutDown { .. })));

    let other = World::new();
    let second = on(&store, two_steps(&other, OnCrash::RunAgain), config());
    tokio::time::advance(ms(10_000 - 100 - 1)).await;
    assert_eq!(second.recover().await.unwrap().resumed, []);
    tokio::time::advance(ms(1)).await;
    assert_eq!(second.recover().await.unwrap().resumed, [id]);
    while second.stats().active > 0 {
        tokio::time::advance(ms(100)).await;
    }
    assert_eq!((world.seen(), other.seen()), (vec!["a".into(), "b".into()], vec!["b".to_owned()]));
    assert_eq!(world.keys("b"), other.keys("b"), "the same key");
    let stats = second.stats();
    assert_eq!((stats.started, stats.resumed, stats.completed), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_step_can_ask_to_be_undone_after_a_crash() {
    let (_world, process, store, first) = in_a_process(OnCrash::Undo);
    let id = first.start(7).await.unwrap().id();
    tokio::time::advance(ms(100)).await;
    process.kill().await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let other = World::new();
    let second = on(&store, two_steps(&other, OnCrash::Undo), config());
    let _ = second.recover().await.unwrap();
    while second.stats().active > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(other.seen(), ["undo b", "undo a"]);
    let tree = second.state(id).await.unwrap().unwrap();
    assert_eq!(tree.reason.as_deref(), Some("b: the worker crashed"));
}

#[tokio::test(start_paused = true)]
async fn an_old_owner_that_wakes_up_is_fenced_before_its_next_step() {
    // The heartbeat of the first worker ends, and its saga continues in the long step b.
    let world = World::new();
    let store = MemoryStore::new(Clock::default());
    let saga = three_steps(&world);
    let heartbeat = Process::default();
    let killed = heartbeat.clone();
    // The first task that an executor spawns is its heartbeat.
    let spawner = Spawner::new(move |task: Task| {
        let handle = tokio::spawn(task).abort_handle();
        let mut tasks = killed.0.lock().unwrap();
        if tasks.is_empty() {
            tasks.push(handle);
        }
    });
    let lease = config().lease(ms(300));
    let first = on(&store, saga, lease.clone().spawner(spawner));
    let execution = first.start(7).await.unwrap();
    heartbeat.kill().await;
    tokio::time::advance(ms(300)).await;
    let other = World::new();
    let mut saga = two_steps(&other, OnCrash::RunAgain);
    saga.step("c")
        .action((), other.service("c", &[Answer(3)], Duration::ZERO), |input: &u32, ()| *input)
        .add();
    let second = on(&store, saga, lease);
    assert_eq!(second.recover().await.unwrap().resumed, [execution.id()]);
    assert!(matches!(execution.await, Err(SagaError::Fenced { .. })));
    assert_eq!(world.seen(), ["a", "b"], "it never came to c");
    assert_eq!(first.stats().fenced, 1);
    while second.stats().active > 0 {
        tokio::time::advance(ms(100)).await;
    }
    assert_eq!(other.seen(), ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_live_lease_nothing_leaves() {
    // The store fails renewals for a while. The step that was due waits, and continues afterwards.
    let world = World::new();
    let store = super::stores::flaky();
    let saga = two_steps(&world, OnCrash::RunAgain);
    let config = config().lease(ms(300));
    let sagas = Executor::new(saga.build().unwrap(), store.clone(), config).unwrap();
    let execution = sagas.start(7).await.unwrap();
    let outage = store.hook().fail_renewals();
    tokio::time::advance(ms(400)).await;
    let waiting = sagas.start(7).await;
    // The start is in the log; the first step waits for the lease.
    let waiting = waiting.unwrap();
    tokio::time::advance(ms(50)).await;
    assert_eq!(world.seen(), ["a", "b"]);
    outage.lift();
    assert_eq!(waiting.await.unwrap().status(), Status::Completed);
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
    assert_eq!(world.seen(), ["a", "b", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn dropping_what_waits_for_it_does_not_stop_a_saga() {
    let world = World::new();
    let sagas = executor(two_steps(&world, OnCrash::RunAgain));
    drop(sagas.start(7).await.unwrap());
    // The executor too.
    let store_sees = world.clone();
    drop(sagas);
    tokio::time::advance(ms(100)).await;
    tokio::time::advance(ms(500)).await;
    assert_eq!(store_sees.seen(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_shut_down_lets_what_runs_end_and_others_go_on_at_once() {
    let world = World::new();
    let store = MemoryStore::new(Clock::default());
    let saga = three_steps(&world);
    let first = on(&store, saga, config());
    let execution = first.start(7).await.unwrap();
    tokio::time::advance(ms(100)).await;
    first.shut_down().await.unwrap();
    let id = execution.id();
    assert!(matches!(execution.await, Err(SagaError::ShutDown { .. })));
    assert!(matches!(first.start(7).await, Err(SagaError::ShutDown { .. })));
    let record = store.load(id).await.unwrap().unwrap();
    assert_eq!(record.status, Status::Running);
    let other = World::new();
    let second = on(&store, three_steps(&other), config());
    assert_eq!(second.recover().await.unwrap().resumed, [id]);
    while second.stats().active > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(other.seen(), ["c"], "b was awaited and recorded");
}

#[tokio::test(start_paused = true)]
async fn other_steps_under_the_same_version_are_noticed() {
    let (world, process, store, first) = in_a_process(OnCrash::RunAgain);
    let id = first.start(7).await.unwrap().id();
    process.kill().await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let changed =
        on(&store, sequence(&world, &[("a", &[Answer(1)]), ("z", &[Answer(1)])]), config());
    let recovery = changed.recover().await.unwrap();
    assert_eq!(recovery.resumed, []);
    assert!(
        matches!(&recovery.left[..], [SagaError::DefinitionChanged { saga, .. }] if *saga == id)
    );
    assert!(matches!(changed.state(id).await, Err(SagaError::DefinitionChanged { .. })));
    // A new version ignores it.
    let mut saga = Definition::<u32>::builder("test", 2);
    let service = world.service("a", &[Answer(1)], Duration::ZERO);
    saga.step("a").action((), service, |input: &u32, ()| *input).add();
    changed.shut_down().await.unwrap();
    assert_eq!(on(&store, saga, config()).recover().await.unwrap().left.len(), 0);
    // The right version still runs it.
    let other = World::new();
    let right = on(&store, two_steps(&other, OnCrash::RunAgain), config());
    assert_eq!(right.recover().await.unwrap().resumed, [id]);
}

#[tokio::test(start_paused = true)]
async fn recovery_can_go_on_by_itself() {
    let (world, process) = (World::new(), Process::default());
    let store = MemoryStore::new(Clock::default());
    let second = on(&store, two_steps(&world, OnCrash::RunAgain), config());
    second.keep_recovering(Duration::from_secs(1));
    let first =
        on(&store, two_steps(&world, OnCrash::RunAgain), config().spawner(process.spawner()));
    let id = first.start(7).await.unwrap().id();
    process.kill().await;
    for _ in 0..12 {
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    let tree = second.state(id).await.unwrap().unwrap();
    assert_eq!(tree.status, Status::Completed);
    assert!(tree.steps.iter().all(|step| step.status == StepStatus::Done));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_at_once() {
    let world = World::new();
    let sagas = executor(two_steps(&world, OnCrash::RunAgain));
    let mut executions = Vec::new();
    for _ in 0..10_000 {
        executions.push(sagas.start(7).await.unwrap());
    }
    assert_eq!(sagas.stats().active, 10_000);
    for execution in executions {
        assert_eq!(execution.await.unwrap().status(), Status::Completed);
    }
    let stats = sagas.stats();
    assert_eq!((stats.started, stats.completed, stats.active), (10_000, 10_000, 0));
    assert_eq!(stats.steps_executed, 20_000);
}

#[tokio::test(start_paused = true)]
async fn an_id_of_the_callers_starts_one_saga() {
    let world = World::new();
    let sagas = executor(two_steps(&world, OnCrash::RunAgain));
    let id = buttress_durable::saga::SagaId::new(5);
    let execution = sagas.start_as(id, 7).await.unwrap();
    let known = |started: Result<_, SagaError>| matches!(started, Err(SagaError::AlreadyStarted { saga }) if saga == id);
    assert!(known(sagas.start_as(id, 7).await.map(drop)), "it runs here");
    assert_eq!(execution.await.unwrap().id(), id);
    assert!(known(sagas.start_as(id, 7).await.map(drop)), "the saga has ended");
    assert_eq!(world.seen(), ["a", "b"]);
}
