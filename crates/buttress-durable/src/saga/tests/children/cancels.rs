//! Cancels and deadlines of parents, and cancels of children.

use super::*;

/// An order whose parent is cancelled after `after`, while its shipment runs, waits or is held.
async fn cancelled_after(after: Duration, waits: bool) -> World {
    let world = World::new();
    let mut saga = Definition::builder("shipment", 1).can_be_child();
    let pick = world.step(&mut saga, "pick", MINUTE);
    if waits {
        saga.step("truck").wait(|_, ()| HOUR);
    }
    let shipments = world.executor(saga);
    let (order, _) = order_of(&world, &shipments, pick, |saga| {
        world.step(saga, "charge", HOUR);
    });
    let orders = world.executor(order);
    let execution = orders.start_as(PARENT, 7).await.unwrap();
    world.clock.sleep(after).await;
    assert!(orders.cancel(PARENT).await.unwrap());
    let report = execution.await.unwrap();
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some("cancelled")));
    let child = shipments.state(shipment_id()).await.unwrap().unwrap();
    assert_eq!((child.status, child.reason.as_deref()), (Status::Compensated, Some("cancelled")));
    world
}

#[tokio::test(start_paused = true)]
async fn a_cancel_goes_down_to_a_child_that_runs() {
    let world = cancelled_after(SECOND, false).await;
    // The step in progress ends first.
    assert_seen(&world, &[(0, "reserve"), (0, "pick"), (60, "undo pick"), (60, "undo reserve")]);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_goes_down_to_a_child_that_waits() {
    let world = cancelled_after(2 * MINUTE, true).await;
    assert_seen(&world, &[(0, "reserve"), (0, "pick"), (120, "undo pick"), (120, "undo reserve")]);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_goes_down_to_a_child_that_is_held() {
    let world = cancelled_after(2 * MINUTE, false).await;
    let names = names(&world.seen()).join(", ");
    assert_eq!(names, "reserve, pick, charge, undo charge, undo pick, undo reserve");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_of_the_parent_cancels_its_child() {
    let world = World::new();
    let (shipments, pick) = shipments(&world);
    let (order, _) = order_of(&world, &shipments, pick, charged(&world));
    let orders = world.executor_with(order, config().deadline(90 * SECOND));
    let report = orders.start_as(PARENT, 7).await.unwrap().await.unwrap();
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some("deadline passed")));
    world.until(&shipments, shipment_id(), Status::Compensated).await;
    let names = names(&world.seen()).join(", ");
    assert_eq!(names, "reserve, pick, book, undo book, undo pick, undo reserve");
    assert!(world.seconds() <= 121, "the child is cancelled at the deadline");
}

/// The limit of a child is until its steps are done. Held, it waits for its parent however long that takes.
#[tokio::test(start_paused = true)]
async fn a_deadline_of_a_held_child_does_not_unwind_it() {
    let world = World::new();
    let (saga, pick) = shipment(&world);
    let shipments = world.executor_with(saga, config().deadline(10 * MINUTE));
    let (order, _) = order_of(&world, &shipments, pick, |saga| {
        world.step(saga, "charge", HOUR);
    });
    let orders = world.executor(order);
    let report = orders.start_as(PARENT, 7).await.unwrap().await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    world.until(&shipments, shipment_id(), Status::Completed).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_or_the_deadline_goes_down_to_a_pivot_child_unless_it_is_past_its_own_pivot() {
    let ends = [(SECOND, Status::Compensated), (90 * SECOND, Status::Completed)];
    for ((at, status), by_deadline) in ends.into_iter().flat_map(|end| [(end, false), (end, true)])
    {
        let world = World::new();
        let mut saga = Definition::builder("shipment", 1).can_be_child();
        let book = world.step(&mut saga, "book", MINUTE);
        world.step_of(saga.step("send").kind(Kind::Pivot), "send", Duration::ZERO, false);
        world.step_of(saga.step("mail").kind(Kind::Retryable), "mail", HOUR, false);
        let shipments = world.executor(saga);
        let mut saga = Definition::builder("order", 1);
        let ship = saga.step("ship").kind(Kind::Pivot);
        ship.child(&shipments, |order: &u32, ()| *order, book);
        let orders = match by_deadline {
            true => world.executor_with(saga, config().deadline(at)),
            false => world.executor(saga),
        };
        let execution = orders.start_as(PARENT, 7).await.unwrap();
        world.clock.sleep(at).await;
        if !by_deadline {
            assert!(orders.cancel(PARENT).await.unwrap());
        }
        assert_eq!(execution.await.unwrap().status(), status);
        world.until(&shipments, shipment_id(), status).await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_parent_cancels_its_child() {
    let Held { shipments, execution, .. } = held().await;
    let error = shipments.cancel(shipment_id()).await.unwrap_err();
    let wanted = format!("is a child of saga {PARENT}: cancel saga {PARENT}");
    assert!(error.to_string().contains(&wanted), "{error}");
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
    // A saga of the same definition without a parent is cancelled as any other.
    let alone = shipments.start(7).await.unwrap();
    assert!(shipments.cancel(alone.id()).await.unwrap());
    assert_eq!(alone.await.unwrap().status(), Status::Compensated);
    assert!(!shipments.cancel(SagaId::new(99)).await.unwrap());
}

/// A saga that has committed ignores a cancel, while the commit of its child waits for the store.
#[tokio::test(start_paused = true)]
async fn a_cancel_after_the_commit_has_no_effect() {
    let world = World::new();
    let there = world.of_another_process();
    let (shipments, pick) = shipments(&there);
    let (order, _) = order_of(&world, &shipments, pick, |_| {});
    let orders = world.executor(order);
    there.store.set(Fault::NoCommits);
    let execution = orders.start_as(PARENT, 7).await.unwrap();
    world.clock.sleep(3 * MINUTE).await;
    assert_eq!(orders.state(PARENT).await.unwrap().unwrap().steps[1].status, StepStatus::Done);
    assert!(orders.cancel(PARENT).await.unwrap(), "the saga is open");
    world.clock.sleep(MINUTE).await;
    assert_eq!(orders.stats().active, 1);
    there.store.set(Fault::None);
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
    world.until(&shipments, shipment_id(), Status::Completed).await;
    assert_eq!(names(&world.seen()), ["reserve", "pick", "book"]);
}
