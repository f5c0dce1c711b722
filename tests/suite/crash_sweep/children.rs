//! A process that runs a saga, its child and its grandchild, and crashes at every operation of their store in turn.

use std::sync::Arc;
use std::time::Duration;

use buttress::{Clock, InMemory};
use buttress_durable::saga::{
    Builder, Config, Definition, Executor, Kind, MemoryStore, Page, SagaId, Status, StepHandle,
    Store,
};
use buttress_sim::crash::{CrashPoints, at_every_boundary, at_every_pair};
use buttress_sim::inject::{Effects, StepFaults};

use super::steps::step;
use super::store::{Crashing, Mortal};

const LEASE: Duration = Duration::from_secs(10);
const ID: SagaId = SagaId::new(77);

type Sagas<S> = Executor<u32, InMemory, S>;

/// The state that outlives the process.
struct World {
    log: MemoryStore,
    effects: Effects,
    faults: StepFaults,
    /// An executor of the child in another process, which takes over what the first one leaves.
    beside: Option<(Sagas<MemoryStore>, Sagas<MemoryStore>)>,
}

impl World {
    /// Creates a world in which the action of the step `refused` is always refused.
    fn new(refused: &'static str, beside: bool) -> Arc<Self> {
        let (effects, faults) = (Effects::new(), StepFaults::new());
        if !refused.is_empty() {
            faults.action(refused).always().fail("refused");
        }
        let log = MemoryStore::new(Clock::default());
        let mut world = Self { log, effects, faults, beside: None };
        if beside {
            let config = || Config::new().lease(LEASE);
            let (parcels, packed) = parcels(&world, world.log.clone(), config());
            let (shipments, _) = shipments(&world, world.log.clone(), config(), &parcels, packed);
            parcels.keep_recovering(Duration::from_secs(1));
            shipments.keep_recovering(Duration::from_secs(1));
            world.beside = Some((parcels, shipments));
        }
        Arc::new(world)
    }

    fn step(&self, saga: &mut Builder<u32>, name: &'static str, kind: Kind) -> StepHandle<u32> {
        step(saga, (&self.effects, &self.faults), name, kind)
    }
}

fn parcels<S: Store<buttress::InMemoryValue>>(
    world: &World,
    store: S,
    config: Config,
) -> (Sagas<S>, StepHandle<u32>) {
    let mut saga = Definition::builder("parcel", 1).can_be_child();
    let packed = world.step(&mut saga, "pack", Kind::Compensatable);
    world.step(&mut saga, "label", Kind::Compensatable);
    (Executor::new(saga.build().unwrap(), store, config).unwrap(), packed)
}

fn shipments<S: Store<buttress::InMemoryValue> + Clone>(
    world: &World,
    store: S,
    config: Config,
    parcels: &Sagas<S>,
    packed: StepHandle<u32>,
) -> (Sagas<S>, StepHandle<u32>) {
    let mut saga = Definition::builder("shipment", 1).can_be_child();
    let packed = saga.step("parcel").child(parcels, |order: &u32, ()| *order, packed);
    world.step(&mut saga, "book", Kind::Compensatable);
    (Executor::new(saga.build().unwrap(), store, config).unwrap(), packed)
}

/// One life of the process: starts the saga, or resumes the unfinished saga. `kind` is the kind of the last step.
async fn live(world: &Arc<World>, points: &CrashPoints, kind: Kind, cancels: bool) {
    let config =
        || Config::new().lease(LEASE).spawner(points.spawner(buttress::Spawner::default()));
    let store = || Mortal::new(world.log.clone(), Crashing(points.clone()));
    let life = async {
        let (parcels, packed) = parcels(world, store(), config());
        let (shipments, packed) = shipments(world, store(), config(), &parcels, packed);
        let mut saga = Definition::<u32>::builder("order", 1);
        world.step(&mut saga, "reserve", Kind::Compensatable);
        saga.step("ship").child(&shipments, |order: &u32, ()| *order, packed);
        world.step(&mut saga, "charge", kind);
        let orders = Executor::new(saga.build().unwrap(), store(), config()).unwrap();
        if world.log.load(ID).await.unwrap().is_none() {
            drop(orders.start_as(ID, 7).await.unwrap());
            if cancels {
                orders.cancel(ID).await.unwrap();
            }
        } else {
            Clock::default().sleep(LEASE).await;
            for recovery in [
                parcels.recover().await.unwrap(),
                shipments.recover().await.unwrap(),
                orders.recover().await.unwrap(),
            ] {
                assert!(recovery.left.is_empty(), "{recovery:?}");
            }
        }
        let began = Clock::default().now();
        while !have_ended(world).await {
            let late = Clock::default().now() - began > Duration::from_secs(600);
            assert!(!late, "{:?}", world.log.list(Page::first(10)).await);
            Clock::default().sleep(Duration::from_millis(10)).await;
        }
    };
    points.guard(life).await;
}

async fn have_ended(world: &World) -> bool {
    let all = world.log.list(Page::first(10)).await.unwrap();
    all.iter().any(|saga| saga.id == ID) && all.iter().all(|saga| saga.status.is_ended())
}

/// Checks that all sagas ended as the parent did, and that their effects agree.
async fn check(world: &World, wanted: Option<Status>) -> Result<(), String> {
    let parent = world.log.load(ID).await.unwrap().ok_or("it was lost")?;
    if wanted.is_some_and(|wanted| parent.status != wanted) {
        return Err(format!("it is {:?}: {:#?}", parent.status, parent.entries));
    }
    let all = world.log.list(Page::first(10)).await.unwrap();
    if let Some(other) = all.iter().find(|saga| saga.status != parent.status) {
        let log = world.log.load(other.id).await.unwrap();
        return Err(format!("{other:?} beside {:?}: {log:#?}", parent.status));
    }
    let is_done = parent.status == Status::Completed;
    if is_done && all.len() != 3 {
        return Err(format!("a child is missing: {all:?}"));
    }
    for saga in all {
        let steps: &[&str] = match saga.definition.as_str() {
            "order" => &["reserve", "charge"],
            "shipment" => &["book"],
            _ => &["pack", "label"],
        };
        for step in steps {
            let count = world.effects.count(saga.id, *step);
            if is_done && !count.stands_once() || !is_done && !count.is_clean() {
                return Err(format!("{} {step}: {count}", saga.definition));
            }
        }
    }
    Ok(())
}

/// The refused step, the kind of the last step of the parent, and the end.
const CASES: [(&str, Kind, Status); 5] = [
    ("", Kind::Compensatable, Status::Completed),
    ("", Kind::Pivot, Status::Completed),
    ("charge", Kind::Pivot, Status::Compensated),
    ("book", Kind::Compensatable, Status::Compensated),
    ("label", Kind::Compensatable, Status::Compensated),
];

#[tokio::test(start_paused = true)]
async fn parent_and_children_end_alike_wherever_their_process_dies() {
    for beside in [false, true] {
        for (refused, kind, status) in CASES {
            let swept = at_every_boundary(
                async || World::new(refused, beside),
                async |world, points| live(world, points, kind, false).await,
                async |world| check(world, Some(status)).await,
            );
            let report = swept.await.unwrap_or_else(|failure| panic!("{refused}: {failure}"));
            assert!(report.crashes >= 20, "{refused}: {report:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_races_a_crash_leaves_all_alike() {
    for beside in [false, true] {
        let swept = at_every_boundary(
            async || World::new("", beside),
            async |world, points| live(world, points, Kind::Compensatable, true).await,
            // The place of the crash decides whether the cancel comes.
            async |world| check(world, None).await,
        );
        let report = swept.await.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.crashes >= 20, "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn parent_and_children_end_alike_when_the_next_process_dies_too() {
    for (refused, kind, status) in [CASES[1], CASES[2]] {
        let swept = at_every_pair(
            async || World::new(refused, false),
            async |world, points| live(world, points, kind, false).await,
            async |world| check(world, Some(status)).await,
        );
        let report = swept.await.unwrap_or_else(|failure| panic!("{refused}: {failure}"));
        assert!(report.crashes >= 400, "{refused}: {report:?}");
    }
}
