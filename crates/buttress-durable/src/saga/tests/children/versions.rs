//! Parents and children of several versions.

use super::*;

/// A shipment of another version, whose first step is another one.
fn shipment_of(world: &World, version: u32) -> (Sagas, StepHandle<u64>) {
    let mut saga = Definition::builder("shipment", version).can_be_child();
    if version > 1 {
        world.step(&mut saga, "label", MINUTE);
    }
    let pick = world.step(&mut saga, "pick", MINUTE);
    (world.executor(saga), pick)
}

/// The parent continues with a newer version of its child's definition, and the child stays with its own version.
#[tokio::test(start_paused = true)]
async fn a_parent_reads_the_output_of_a_child_of_an_older_version() {
    let world = World::new();
    let (old, pick) = shipment_of(&world, 1);
    let (order, _) = order_of(&world, &old, pick, charged(&world));
    let orders = world.executor(order);
    drop(orders.start_as(PARENT, 7).await.unwrap());
    world.until(&old, shipment_id(), Status::Running).await;
    orders.shut_down().await.unwrap();
    let (new, pick) = shipment_of(&world, 2);
    let (order, ship) = order_of(&world, &new, pick, charged(&world));
    let orders = world.executor(order);
    let id = orders.recover().await.unwrap().resumed[0];
    world.until(&orders, id, Status::Completed).await;
    let report = orders.start_or_attach(PARENT, 7).await.unwrap().await.unwrap();
    assert_eq!(report.output(ship), Some(Arc::new(60)));
    world.until(&old, shipment_id(), Status::Completed).await;
    assert_eq!(names(&world.seen()), ["reserve", "pick", "charge"]);
}

/// Starts a parent of version 1 whose child is held, moves it to version 2, and returns why it stays.
async fn why(
    kind: Kind,
    name: &'static str,
    function: impl FnMut(&mut MigratedLog<InMemory>) -> Result<(), BoxError> + Send,
) -> Option<String> {
    let world = World::new();
    let (shipments, pick) = shipments(&world);
    let (order, _) = order_of(&world, &shipments, pick, |saga| {
        saga.step("paid").signal::<u32>(|_, ()| None);
    });
    let old = world.executor(order);
    drop(old.start_as(PARENT, 7).await.unwrap());
    world.until(&old, PARENT, Status::Waiting).await;
    old.shut_down().await.unwrap();
    let mut saga = Definition::builder("order", 2);
    world.step(&mut saga, "reserve", Duration::ZERO);
    saga.step(name).kind(kind).child(&shipments, |order: &u32, ()| *order, pick);
    saga.step("paid").signal::<u32>(|_, ()| None);
    let new = Executor::new(saga.build().unwrap(), world.store.inner.clone(), config()).unwrap();
    new.recover().await.unwrap();
    let mut migration = new.migrate(1, function).await.unwrap();
    if let Some(needs) = migration.needs_migration.pop() {
        return Some(needs.why);
    }
    assert_eq!(migration.moved, [PARENT]);
    new.signal(PARENT, "paid", 1_u32, SignalId::new(1)).await.unwrap();
    world.until(&shipments, shipment_id(), Status::Completed).await;
    None
}

#[tokio::test(start_paused = true)]
async fn a_parent_moves_with_its_children_to_another_version() {
    let child = Kind::Compensatable;
    assert_eq!(why(child, "ship", |_| Ok(())).await, None);
    let renamed = why(child, "send", |log| Ok(log.rename("ship", "send")?)).await.unwrap();
    assert!(renamed.contains("the id of its child saga is made of the name"), "{renamed}");
    let forgotten = why(child, "send", |log| Ok(log.forget("ship")?)).await.unwrap();
    assert!(forgotten.contains("its child saga cannot be forgotten"), "{forgotten}");
    let other = why(Kind::Pivot, "ship", |_| Ok(())).await.unwrap();
    assert!(other.contains("was of another sort: an action, a child saga"), "{other}");
}

/// The parent may still undo a held child, so the child moves to no version with a point of no return.
#[tokio::test(start_paused = true)]
async fn a_held_child_moves_to_no_version_with_a_point_of_no_return() {
    let Held { world, orders, .. } = held().await;
    let mut running = Vec::new();
    for kind in [Kind::Pivot, Kind::Compensatable] {
        let mut saga = Definition::builder("shipment", 2).can_be_child();
        world.step(&mut saga, "pick", MINUTE);
        let has_undo = kind == Kind::Compensatable;
        world.step_of(saga.step("book").kind(kind), "book", MINUTE, has_undo);
        let new =
            Executor::new(saga.build().unwrap(), world.store.inner.clone(), config()).unwrap();
        new.recover().await.unwrap();
        let migration = new.migrate(1, |_| Ok(())).await.unwrap();
        match migration.needs_migration.first() {
            Some(needs) => {
                assert_eq!(kind, Kind::Pivot);
                let wanted =
                    "a parent holds the saga, and the step \"book\" of version 2 cannot be undone";
                assert_eq!(needs.why, wanted);
                new.shut_down().await.unwrap();
            }
            None => {
                assert_eq!((kind, migration.moved), (Kind::Compensatable, vec![shipment_id()]));
                running.push(new);
            }
        }
    }
    world.until(&orders, PARENT, Status::Completed).await;
    world.clock.sleep(SECOND).await;
    let log = world.store.inner.load(shipment_id()).await.unwrap().unwrap();
    assert_eq!((log.version, log.status), (2, Status::Completed));
    assert_eq!(running[0].stats().completed, 1);
}

/// A held child has to have all steps of its new version done, and they come before its parent held it.
#[tokio::test(start_paused = true)]
async fn a_held_child_moves_with_a_new_step_that_counts_as_done() {
    let Held { world, orders, .. } = held().await;
    let mut saga = Definition::builder("shipment", 2).can_be_child();
    for step in ["pick", "book", "stamp"] {
        world.step(&mut saga, step, MINUTE);
    }
    let new = Executor::new(saga.build().unwrap(), world.store.inner.clone(), config()).unwrap();
    new.recover().await.unwrap();
    let needs = new.migrate(1, |_| Ok(())).await.unwrap().needs_migration.remove(0).why;
    let wanted = "a parent holds the saga, and the step \"stamp\" of version 2 is not done; mark it with `done`, or run \
                  version 1 with `also_run`";
    assert_eq!(needs, wanted);
    let migration = new.migrate(1, |log| Ok(log.done("stamp", 1_u64)?)).await.unwrap();
    assert_eq!(migration.moved, [shipment_id()], "{migration:?}");
    world.until(&orders, PARENT, Status::Completed).await;
    world.clock.sleep(SECOND).await;
    let log = world.store.inner.load(shipment_id()).await.unwrap().unwrap();
    assert_eq!((log.version, log.status), (2, Status::Completed));
    assert_eq!(names(&world.seen()), ["reserve", "pick", "book", "charge"]);
}

/// The log of a long definition does not say which of its steps are child sagas.
#[tokio::test(start_paused = true)]
async fn no_step_of_a_long_definition_that_may_be_a_child_is_renamed_or_forgotten() {
    let world = World::new();
    let (shipments, pick) = shipments(&world);
    let order = |version| {
        let mut saga = Definition::builder("order", version);
        world.step(&mut saga, LONG, Duration::ZERO);
        saga
    };
    let mut saga = order(1);
    saga.step("ship").child(&shipments, |order: &u32, ()| *order, pick);
    saga.step("paid").signal::<u32>(|_, ()| None);
    let old = world.executor(saga);
    drop(old.start_as(PARENT, 7).await.unwrap());
    world.until(&old, PARENT, Status::Waiting).await;
    old.shut_down().await.unwrap();
    let mut saga = order(2);
    world.step(&mut saga, "send", Duration::ZERO);
    saga.step("paid").signal::<u32>(|_, ()| None);
    for name in ["ship", "label"] {
        saga.step(name).child(&shipments, |order: &u32, ()| *order, pick);
    }
    let new = Executor::new(saga.build().unwrap(), world.store.inner.clone(), config()).unwrap();
    new.recover().await.unwrap();
    let why = async |change: fn(&mut MigratedLog<InMemory>) -> Result<(), BoxError>| {
        let migration = new.migrate(1, |log| {
            log.steps_were([LONG, "ship", "paid"])?;
            change(log)
        });
        migration.await.unwrap().needs_migration.remove(0).why
    };
    let forgotten = why(|log| Ok(log.forget("ship")?)).await;
    assert!(forgotten.contains("\"ship\" has begun, and cannot be forgotten"), "{forgotten}");
    let renamed = why(|log| Ok(log.rename("ship", "send")?)).await;
    assert!(renamed.contains("\"ship\" cannot be renamed"), "{renamed}");
    let done = why(|log| Ok(log.done("label", 1_u64)?)).await;
    assert!(done.contains("because it is a child saga"), "{done}");
}
