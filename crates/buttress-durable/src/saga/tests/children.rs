//! Child sagas, under a paused clock.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::saga::model::invalid::InvalidDefinition;
use crate::saga::run::child::id_of;

mod cancels;
mod definitions;
mod mishaps;
mod stuck;
mod versions;

const PARENT: SagaId = SagaId::new(7);

/// The id of the child that the step "ship" of [`PARENT`] runs.
fn shipment_id() -> SagaId {
    id_of(PARENT, "ship")
}

/// A shipment of two steps, which take a minute each. Returns the handle of the first one too.
fn shipment(world: &World) -> (Builder<u32>, StepHandle<u64>) {
    let mut saga = Definition::builder("shipment", 1).can_be_child();
    let pick = world.step(&mut saga, "pick", MINUTE);
    world.step(&mut saga, "book", MINUTE);
    (saga, pick)
}

fn shipments(world: &World) -> (Sagas, StepHandle<u64>) {
    let (saga, pick) = shipment(world);
    (world.executor(saga), pick)
}

/// An order: a step, a shipment, and `last`.
fn order_of(
    world: &World,
    shipments: &Sagas,
    pick: StepHandle<u64>,
    last: impl FnOnce(&mut Builder<u32>),
) -> (Builder<u32>, StepHandle<u64>) {
    let mut saga = Definition::builder("order", 1);
    world.step(&mut saga, "reserve", Duration::ZERO);
    let ship = saga.step("ship").child(shipments, |order: &u32, ()| *order, pick);
    last(&mut saga);
    (saga, ship)
}

/// Adds a last step that is done.
fn charged(world: &World) -> impl FnOnce(&mut Builder<u32>) {
    let world = world.clone();
    move |saga| {
        world.step(saga, "charge", Duration::ZERO);
    }
}

/// Adds a last step that is refused.
fn refused(world: &World) -> impl FnOnce(&mut Builder<u32>) {
    let world = world.clone();
    move |saga| {
        let charge = service_fn(move |_: Call<u32>| {
            world.note("charge");
            async { Err::<u64, BoxError>("declined".into()) }
        });
        saga.step("charge").action((), charge, |order: &u32, ()| *order).definite(|_| true).add();
    }
}

/// An order whose shipment is held: its last step takes an hour.
struct Held {
    world: World,
    orders: Sagas,
    shipments: Sagas,
    ship: StepHandle<u64>,
    execution: Execution,
}

async fn held() -> Held {
    let world = World::new();
    let (shipments, pick) = shipments(&world);
    let (order, ship) = order_of(&world, &shipments, pick, |saga| {
        world.step(saga, "charge", HOUR);
    });
    let orders = world.executor(order);
    let execution = orders.start_as(PARENT, 7).await.unwrap();
    world.until(&shipments, shipment_id(), Status::Waiting).await;
    Held { world, orders, shipments, ship, execution }
}

#[tokio::test(start_paused = true)]
async fn a_child_is_held_until_all_steps_are_done_and_then_completes() {
    let Held { world, orders, shipments, ship, execution } = held().await;
    let held = world.until(&shipments, shipment_id(), Status::Waiting).await;
    assert_eq!((held.parent, held.until), (Some(PARENT), None));
    assert!(held.to_string().contains(&format!("waiting, child of {PARENT}")), "{held}");
    world.clock.sleep(MINUTE).await;
    let tree = orders.state(PARENT).await.unwrap().unwrap();
    assert_eq!((tree.status, tree.steps[1].status), (Status::Running, StepStatus::Done));
    assert_eq!((tree.steps[0].child, tree.steps[1].child), (None, Some(shipment_id())));
    assert!(tree.to_string().contains(&format!("ship: done, child {}", shipment_id())), "{tree}");
    assert_eq!(shipments.stats().active, 0, "a held child needs no task");
    let report = execution.await.unwrap();
    assert_eq!((report.status(), report.output(ship)), (Status::Completed, Some(Arc::new(60))));
    world.until(&shipments, shipment_id(), Status::Completed).await;
    assert_seen(&world, &[(0, "reserve"), (0, "pick"), (60, "book"), (120, "charge")]);
    assert_eq!((shipments.stats().started, shipments.stats().woken), (1, 1));
    assert_eq!((shipments.stats().completed, orders.stats().completed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_the_child_unwinds_it_first() {
    let world = World::new();
    let (shipments, pick) = shipments(&world);
    let (order, _) = order_of(&world, &shipments, pick, refused(&world));
    let orders = world.executor(order);
    let report = orders.start_as(PARENT, 7).await.unwrap().await.unwrap();
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some("charge: declined")));
    let child = world.until(&shipments, shipment_id(), Status::Compensated).await;
    assert_eq!(child.reason.as_deref(), Some("cancelled"));
    let names = ["reserve", "pick", "book", "charge", "undo book", "undo pick", "undo reserve"];
    assert_eq!(super::names(&world.seen()), names);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_fails_fails_its_step_with_its_reason() {
    let world = World::new();
    let mut saga = Definition::builder("shipment", 1).can_be_child();
    let pick = world.step(&mut saga, "pick", Duration::ZERO);
    refused(&world)(&mut saga);
    let shipments = world.executor(saga);
    let (order, _) = order_of(&world, &shipments, pick, |_| {});
    let orders = world.executor(order);
    let report = orders.start_as(PARENT, 7).await.unwrap().await.unwrap();
    let why = format!("ship: child {}: charge: declined", shipment_id());
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some(why.as_str())));
    assert_eq!(
        super::names(&world.seen()),
        ["reserve", "pick", "charge", "undo pick", "undo reserve"]
    );
}

/// The child waits for an hour: the parent has a task, the child needs none.
#[tokio::test(start_paused = true)]
async fn a_parent_waits_for_a_child_that_waits() {
    let world = World::new();
    let mut saga = Definition::builder("shipment", 1).can_be_child();
    saga.step("truck").wait(|_, ()| HOUR);
    let book = world.step(&mut saga, "book", Duration::ZERO);
    let shipments = world.executor(saga);
    let (order, _) = order_of(&world, &shipments, book, charged(&world));
    let orders = world.executor(order);
    let execution = orders.start_as(PARENT, 7).await.unwrap();
    world.until(&shipments, shipment_id(), Status::Waiting).await;
    world.clock.sleep(MINUTE).await;
    assert_eq!((orders.stats().active, shipments.stats().active), (1, 0));
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
    world.until(&shipments, shipment_id(), Status::Completed).await;
    assert_seen(&world, &[(0, "reserve"), (3600, "book"), (3600, "charge")]);
}

#[tokio::test(start_paused = true)]
async fn a_pivot_child_completes_by_itself() {
    let world = World::new();
    let mut saga = Definition::builder("shipment", 1).can_be_child();
    let book = world.step(&mut saga, "book", Duration::ZERO);
    world.step_of(saga.step("send").kind(Kind::Pivot), "send", MINUTE, false);
    let shipments = world.executor(saga);
    let mut saga = Definition::builder("order", 1);
    world.step(&mut saga, "reserve", Duration::ZERO);
    let ship = saga.step("ship").kind(Kind::Pivot);
    let ship = ship.child(&shipments, |order: &u32, ()| *order, book);
    world.step_of(saga.step("mail").kind(Kind::Retryable), "mail", HOUR, false);
    let orders = world.executor(saga);
    let execution = orders.start_as(PARENT, 7).await.unwrap();
    world.until(&shipments, shipment_id(), Status::Completed).await;
    assert_eq!(orders.state(PARENT).await.unwrap().unwrap().status, Status::Running);
    let report = execution.await.unwrap();
    assert_eq!((report.status(), report.output(ship)), (Status::Completed, Some(Arc::new(0))));
    assert_seen(&world, &[(0, "reserve"), (0, "book"), (0, "send"), (60, "mail")]);
    assert_eq!(shipments.stats().woken, 0, "it was not held");
}

/// Three sagas in each other: the parent decides for all of them.
#[tokio::test(start_paused = true)]
async fn grandchildren_end_as_their_grandparent_does() {
    for completes in [true, false] {
        let world = World::new();
        let (parcels, pick) = {
            let mut saga = Definition::builder("parcel", 1).can_be_child();
            let pick = world.step(&mut saga, "pick", MINUTE);
            (world.executor(saga), pick)
        };
        let mut saga = Definition::builder("shipment", 1).can_be_child();
        let packed = saga.step("pack").child(&parcels, |order: &u32, ()| *order, pick);
        world.step(&mut saga, "book", MINUTE);
        let shipments = world.executor(saga);
        let order = match completes {
            true => order_of(&world, &shipments, packed, charged(&world)).0,
            false => order_of(&world, &shipments, packed, refused(&world)).0,
        };
        let orders = world.executor(order);
        let execution = orders.start_as(PARENT, 7).await.unwrap();
        let parcel = id_of(shipment_id(), "pack");
        world.until(&parcels, parcel, Status::Waiting).await;
        let status = if completes { Status::Completed } else { Status::Compensated };
        assert_eq!(execution.await.unwrap().status(), status);
        world.until(&shipments, shipment_id(), status).await;
        world.until(&parcels, parcel, status).await;
        let seen = world.seen();
        let wanted: &[&str] = match completes {
            true => &["reserve", "pick", "book", "charge"],
            false => {
                &["reserve", "pick", "book", "charge", "undo book", "undo pick", "undo reserve"]
            }
        };
        assert_eq!(super::names(&seen), wanted);
    }
}

/// Two children beside each other, of which one fails: the other one is unwound.
#[tokio::test(start_paused = true)]
async fn a_child_that_fails_beside_another_unwinds_it() {
    let world = World::new();
    let (shipments, pick) = shipments(&world);
    let mut saga = Definition::builder("bill", 1).can_be_child();
    let bill = world.step(&mut saga, "bill", Duration::ZERO);
    refused(&world)(&mut saga);
    let bills = world.executor(saga);
    let mut saga = Definition::builder("order", 1);
    saga.parallel(|saga| {
        saga.step("ship").child(&shipments, |order: &u32, ()| *order, pick);
        saga.step("bill").child(&bills, |order: &u32, ()| *order, bill);
    });
    let orders = world.executor(saga);
    let report = orders.start_as(PARENT, 7).await.unwrap().await.unwrap();
    let why = format!("bill: child {}: charge: declined", id_of(PARENT, "bill"));
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some(why.as_str())));
    world.until(&shipments, shipment_id(), Status::Compensated).await;
    // The shipment picks when it is cancelled, and books nothing.
    assert_eq!(super::names(&world.seen()), ["pick", "bill", "charge", "undo bill", "undo pick"]);
}
