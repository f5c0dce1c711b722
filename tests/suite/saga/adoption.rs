//! Sagas that a worker owns in the store but does not run: the next recovery resumes them.

use std::time::Duration;

use buttress::{Clock, Spawner, Task};
use buttress_durable::saga::{
    Executor, Page, SagaError, SagaId, Status, Store, TakeOver, WorkerId,
};

use super::stores::{Flaky, flaky};
use super::world::*;
use crate::support::{is_pending, ms};

const LEASE: Duration = Duration::from_secs(10);

fn on(store: &Flaky, world: &World) -> Executor<u32, buttress::InMemory, Flaky> {
    let saga = sequence(world, &[("a", &[Answer(1)]), ("b", &[Answer(2)])]);
    Executor::new(saga.build().unwrap(), store.clone(), config()).unwrap()
}

/// Sagas of a worker that crashed right after it had started them: their tasks are dropped.
async fn orphans(store: &Flaky, count: u128) -> Vec<SagaId> {
    let spawner = Spawner::new(|task: Task| {
        let handle = tokio::spawn(task);
        tokio::spawn(async move {
            Clock::default().sleep(ms(1)).await;
            handle.abort();
        });
    });
    let mut saga = sequence(&World::new(), &[]);
    for name in ["a", "b"] {
        let never = World::new().service(name, &[Never], Duration::ZERO);
        let undo = World::new().service("undo", &[Answer(0)], Duration::ZERO);
        saga.step(name)
            .timeout(Duration::from_secs(1))
            .action((), never, |input: &u32, ()| *input)
            .undo((), undo, |_, (), output| output)
            .add();
    }
    let first = Executor::new(saga.build().unwrap(), store.clone(), config().spawner(spawner));
    let first = first.unwrap();
    for id in 1..=count {
        drop(first.start_as(SagaId::new(id), 7).await.unwrap());
    }
    tokio::time::advance(LEASE).await;
    (1..=count).map(SagaId::new).collect()
}

async fn all_complete(sagas: &Executor<u32, buttress::InMemory, Flaky>, ids: &[SagaId]) {
    while sagas.stats().active > 0 {
        tokio::time::advance(ms(10)).await;
    }
    for id in ids {
        let tree = sagas.state(*id).await.unwrap().unwrap();
        assert_eq!(tree.status, Status::Completed, "{tree}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_take_over_whose_answer_was_lost_is_adopted() {
    let (world, store) = (World::new(), flaky());
    let ids = orphans(&store, 10).await;
    let sagas = on(&store, &world);
    assert_eq!(sagas.list(Page::first(100)).await.unwrap().len(), 10);
    // The state after a take-over whose answer was lost.
    store.renew_worker(sagas.worker(), LEASE).await.unwrap();
    let taken =
        store.take_abandoned(TakeOver::new(sagas.worker(), ("test", 1), 100)).await.unwrap();
    assert_eq!(taken.sagas.len(), 10);
    assert_eq!(sagas.recover().await.unwrap().resumed, ids);
    all_complete(&sagas, &ids).await;
    assert_eq!(world.seen().len(), 20, "each step once");
    assert!(sagas.recover().await.unwrap().resumed.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_was_dropped_half_way_is_adopted() {
    let (world, store) = (World::new(), flaky());
    let ids = orphans(&store, 10).await;
    let sagas = on(&store, &world);
    let hang = store.hook().faults.on("take_abandoned").always().hang_after();
    let mut recovering = Box::pin(sagas.recover());
    assert!(is_pending(&mut recovering));
    drop(recovering);
    hang.lift();
    assert_eq!(sagas.recover().await.unwrap().resumed, ids);
    all_complete(&sagas, &ids).await;
    assert_eq!(world.seen().len(), 20, "each step once");
}

#[tokio::test(start_paused = true)]
async fn what_another_worker_owns_is_not_adopted() {
    let (world, store) = (World::new(), flaky());
    orphans(&store, 3).await;
    let other = WorkerId::new(99);
    store.renew_worker(other, LEASE).await.unwrap();
    assert_eq!(
        store.take_abandoned(TakeOver::new(other, ("test", 1), 100)).await.unwrap().sagas.len(),
        3
    );
    let sagas = on(&store, &world);
    assert!(sagas.recover().await.unwrap().resumed.is_empty());
    assert_eq!(world.seen(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_saga_whose_task_died_is_adopted() {
    let (world, store) = (World::new(), flaky());
    let mut saga = sequence(&world, &[]);
    saga.step("a")
        .action((), world.service("a", &[Answer(1)], ms(50)), |input: &u32, ()| *input)
        .add();
    let sagas = Executor::new(saga.build().unwrap(), store.clone(), config()).unwrap();
    let id = SagaId::new(5);
    let execution = sagas.start_as(id, 7).await.unwrap();
    store.hook().faults.on("append").panic();
    match execution.await {
        Err(SagaError::Panicked { saga, why }) => {
            assert_eq!((saga, why.as_str()), (id, "panicked: injected into \"append\""));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(sagas.stats().active, 0);
    assert_eq!(sagas.recover().await.unwrap().resumed, [id]);
    all_complete(&sagas, &[id]).await;
    assert_eq!(world.keys("a")[0], world.keys("a")[1]);
    sagas.shut_down().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_is_stuck_is_not_adopted() {
    let store = flaky();
    let world = World::new();
    let mut saga = sequence(&world, &[]);
    saga.step("p")
        .kind(buttress_durable::saga::Kind::Pivot)
        .action((), world.service("p", &[Break], Duration::ZERO), |input: &u32, ()| *input)
        .add();
    let sagas = Executor::new(saga.build().unwrap(), store.clone(), config()).unwrap();
    assert_eq!(sagas.run_to_end(7).await.unwrap().status(), Status::Stuck);
    let before = world.seen().len();
    assert!(sagas.recover().await.unwrap().resumed.is_empty());
    assert_eq!((world.seen().len(), sagas.stats().stuck), (before, 1));
}

#[tokio::test(start_paused = true)]
async fn a_recovery_in_a_loop_beside_a_thousand_starts_repeats_no_step() {
    let (world, store) = (World::new(), flaky());
    let sagas = on(&store, &world);
    let looping = sagas.clone();
    let recovering = tokio::spawn(async move {
        loop {
            let recovery = looping.recover().await.unwrap();
            assert!(recovery.resumed.is_empty(), "{recovery:?}");
            tokio::task::yield_now().await;
        }
    });
    let starts = (0..1000).map(|_| {
        let sagas = sagas.clone();
        tokio::spawn(async move { sagas.run_to_end(7).await.unwrap().status() })
    });
    for run in starts.collect::<Vec<_>>() {
        assert_eq!(run.await.unwrap(), Status::Completed);
    }
    assert!(!recovering.is_finished());
    recovering.abort();
    assert_eq!(world.seen().len(), 2000);
    assert_eq!((sagas.stats().resumed, sagas.stats().fenced), (0, 0));
}
