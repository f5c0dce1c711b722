//! A process that crashes at every operation of its store in turn, while sagas move to the next version of their
//! definition.

use std::sync::Arc;
use std::time::Duration;

use buttress::{Clock, InMemory};
use buttress_durable::saga::{
    Config, Definition, Executor, Kind, MemoryStore, SagaId, Status, Store,
};
use buttress_sim::crash::{CrashPoints, at_every_boundary, at_every_pair};
use buttress_sim::inject::{Effects, StepFaults};
use tower::BoxError;

use super::steps::step;
use super::store::{Crashing, Mortal};

const LEASE: Duration = Duration::from_secs(5);
const ID: SagaId = SagaId::new(78);

type Sagas = Executor<u32, InMemory, Mortal<MemoryStore>>;

/// The state that outlives the process.
struct World {
    log: MemoryStore,
    effects: Effects,
    faults: StepFaults,
}

impl World {
    /// Creates a world in which the action of the step `refused` is always refused.
    fn new(refused: &'static str) -> Arc<Self> {
        let (effects, faults) = (Effects::new(), StepFaults::new());
        if !refused.is_empty() {
            faults.action(refused).always().fail("refused");
        }
        Arc::new(Self { log: MemoryStore::new(Clock::default()), effects, faults })
    }

    /// Creates an executor of one release. The later one has renamed the wait, and added a step at the end.
    fn executor(&self, version: u32, points: &CrashPoints) -> Sagas {
        let mut saga = Definition::<u32>::builder("order", version);
        let world = (&self.effects, &self.faults);
        step(&mut saga, world, "reserve", Kind::Compensatable);
        let wait = if version == 1 { "pause" } else { "rest" };
        saga.step(wait).wait(|_, ()| Duration::from_secs(5));
        step(&mut saga, world, "charge", Kind::Compensatable);
        if version == 2 {
            step(&mut saga, world, "notify", Kind::Compensatable);
        }
        let store = Mortal::new(self.log.clone(), Crashing(points.clone()));
        let spawner = points.spawner(buttress::Spawner::default());
        let config = Config::new().lease(LEASE).spawner(spawner);
        Executor::new(saga.build().unwrap(), store, config).unwrap()
    }

    async fn until(&self, is_there: impl Fn(Status) -> bool) {
        let began = Clock::default().now();
        while !self.log.load(ID).await.unwrap().is_some_and(|saga| is_there(saga.status)) {
            let late = Clock::default().now() - began > Duration::from_secs(600);
            assert!(!late, "{:#?}", self.log.load(ID).await);
            Clock::default().sleep(Duration::from_millis(250)).await;
        }
    }
}

/// One life of the process: starts the saga under version 1, or finds the unfinished saga. Then the later release moves
/// it, and runs it to its end.
async fn live(world: &Arc<World>, points: &CrashPoints) {
    let life = async {
        if world.log.load(ID).await.unwrap().is_none() {
            let old = world.executor(1, points);
            drop(old.start_as(ID, 7).await.unwrap());
            world.until(|status| status == Status::Waiting || status.is_ended()).await;
            old.shut_down().await.unwrap();
        } else {
            // The worker before is gone.
            Clock::default().sleep(LEASE).await;
        }
        let new = world.executor(2, points);
        let migration = new
            .migrate(1, |log| log.rename("pause", "rest").map_err(BoxError::from))
            .await
            .unwrap();
        assert!(migration.needs_migration.is_empty(), "{migration:?}");
        assert!(migration.busy.is_empty(), "{migration:?}");
        new.keep_recovering(Duration::from_secs(1));
        world.until(Status::is_ended).await;
    };
    points.guard(life).await;
}

/// Checks that the saga has moved, and that its effects are right.
async fn check(world: &World, wanted: Status) -> Result<(), String> {
    let saga = world.log.load(ID).await.unwrap().ok_or("it was lost")?;
    if (saga.status, saga.version) != (wanted, 2) {
        return Err(format!("it is {:?} of version {}", saga.status, saga.version));
    }
    for step in ["reserve", "charge", "notify"] {
        let count = world.effects.count(ID, step);
        let is_done = wanted == Status::Completed;
        if is_done && !count.stands_once() || !is_done && !count.is_clean() {
            return Err(format!("{step}: {count}"));
        }
    }
    Ok(())
}

const CASES: [(&str, Status); 3] =
    [("", Status::Completed), ("charge", Status::Compensated), ("notify", Status::Compensated)];

#[tokio::test(start_paused = true)]
async fn a_saga_moves_once_and_ends_wherever_its_process_dies() {
    for (refused, status) in CASES {
        let swept = at_every_boundary(
            async || World::new(refused),
            async |world, points| live(world, points).await,
            async |world| check(world, status).await,
        );
        let report = swept.await.unwrap_or_else(|failure| panic!("{refused}: {failure}"));
        assert!(report.crashes >= 20, "{refused}: {report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_saga_moves_once_and_ends_when_the_next_process_dies_too() {
    let (refused, status) = ("charge", Status::Compensated);
    let swept = at_every_pair(
        async || World::new(refused),
        async |world, points| live(world, points).await,
        async |world| check(world, status).await,
    );
    let report = swept.await.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.crashes >= 200, "{report:?}");
}
