//! Children across crashes, take-overs, outages and late starts.

use super::*;
use crate::saga::model::child::Parent;
use buttress::Format;

/// The executors of a process, on its own handle of the store.
fn process(world: &World) -> (Sagas, Sagas) {
    let (shipments, pick) = shipments(world);
    let (order, _) = order_of(world, &shipments, pick, charged(world));
    (world.executor(order), shipments)
}

/// The executors of a process that has started an order, and whose shipment runs.
async fn under_way(world: &World) -> (Sagas, Sagas) {
    let (orders, shipments) = process(world);
    drop(orders.start_as(PARENT, 7).await.unwrap());
    world.until(&shipments, shipment_id(), Status::Running).await;
    (orders, shipments)
}

/// The worker of parent and child dies while the child runs. The next one finds the child, and starts no second one.
#[tokio::test(start_paused = true)]
async fn the_next_worker_finds_the_child() {
    let world = World::new();
    let _dying = under_way(&world).await;
    world.store.set(Fault::DiesBeforeAppend);
    world.clock.sleep(LEASE + MINUTE).await;
    let there = world.of_another_process();
    let (orders, shipments) = process(&there);
    assert_eq!(shipments.recover().await.unwrap().resumed, [shipment_id()]);
    assert_eq!(orders.recover().await.unwrap().resumed, [PARENT]);
    world.until(&orders, PARENT, Status::Completed).await;
    world.until(&shipments, shipment_id(), Status::Completed).await;
    assert_eq!(shipments.stats().started, 0);
    // The end of the first step was not recorded, so it runs again.
    assert_eq!(names(&world.seen()), ["reserve", "pick", "pick", "book", "charge"]);
}

/// Two processes: the child runs in the first one, and the parent, which was taken over, in the second one.
#[tokio::test(start_paused = true)]
async fn a_parent_sees_the_end_of_a_child_in_another_process() {
    let world = World::new();
    let (orders, shipments) = under_way(&world).await;
    orders.shut_down().await.unwrap();
    assert_eq!(world.seconds(), 0, "a shutdown does not wait for a child");
    let there = world.of_another_process();
    let (orders, elsewhere) = process(&there);
    assert_eq!(orders.recover().await.unwrap().resumed, [PARENT]);
    world.until(&orders, PARENT, Status::Completed).await;
    assert!(world.seconds() <= 126, "at most 5 seconds after the child");
    world.until(&shipments, shipment_id(), Status::Completed).await;
    assert_eq!(names(&world.seen()), ["reserve", "pick", "book", "charge"]);
    assert_eq!(shipments.stats().completed + elsewhere.stats().completed, 1);
}

/// The parent dies after its own commit, before the commit of the child.
#[tokio::test(start_paused = true)]
async fn the_next_worker_commits_the_child() {
    let world = World::new();
    let (orders, shipments) = process(&world);
    world.store.set(Fault::NoCommits);
    drop(orders.start_as(PARENT, 7).await.unwrap());
    world.clock.sleep(3 * MINUTE).await;
    orders.shut_down().await.unwrap();
    world.store.set(Fault::None);
    world.clock.sleep(HOUR).await;
    assert_eq!(shipments.state(shipment_id()).await.unwrap().unwrap().status, Status::Waiting);
    let there = world.of_another_process();
    let (orders, _) = process(&there);
    assert_eq!(orders.recover().await.unwrap().resumed, [PARENT]);
    world.until(&orders, PARENT, Status::Completed).await;
    world.until(&shipments, shipment_id(), Status::Completed).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_the_commit_of_a_child_changes_nothing() {
    let world = World::new();
    let (orders, shipments) = process(&world);
    world.store.set(Fault::LosesCommit);
    let execution = orders.start_as(PARENT, 7).await.unwrap();
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
    world.until(&shipments, shipment_id(), Status::Completed).await;
    assert_eq!((shipments.stats().store_failed, shipments.stats().woken), (1, 1));
}

/// A worker takes a held child by chance, because of a signal: it is held again, and nothing else happens.
#[tokio::test(start_paused = true)]
async fn a_signal_does_not_wake_a_held_child() {
    let world = World::new();
    let mut saga = Definition::builder("shipment", 1).can_be_child();
    let pick = world.step(&mut saga, "pick", Duration::ZERO);
    saga.step("note").signal_or_none::<u32>(|_, ()| Some(SECOND));
    let shipments = world.executor(saga);
    let (order, _) = order_of(&world, &shipments, pick, |saga| {
        world.step(saga, "charge", HOUR);
    });
    let orders = world.executor(order);
    let execution = orders.start_as(PARENT, 7).await.unwrap();
    world.clock.sleep(MINUTE).await;
    let sent = shipments.signal(shipment_id(), "note", 1_u32, SignalId::new(1)).await;
    assert_eq!(sent.unwrap(), Signalled::Delivered);
    world.clock.sleep(MINUTE).await;
    assert_eq!(shipments.state(shipment_id()).await.unwrap().unwrap().status, Status::Waiting);
    let log = world.store.inner.load(shipment_id()).await.unwrap().unwrap().entries;
    assert!(matches!(log[..], [.., Entry::Held, Entry::Held]), "{log:?}");
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
    world.until(&shipments, shipment_id(), Status::Completed).await;
}

/// The worker of an order dies before it creates the child, and its request arrives after the next worker has undone the
/// step.
#[tokio::test(start_paused = true)]
async fn a_late_start_after_the_undo_has_no_effect() {
    let world = World::new();
    let (orders, shipments) = process(&world);
    let input = buttress::Codec::encode(&InMemory, &Arc::new(7_u32)).unwrap();
    let output = buttress::Codec::encode(&InMemory, &Arc::new(0_u64)).unwrap();
    let beginning = orders.core.definition.inner.beginning(input.clone());
    let mut begun = NewSaga::new(PARENT, ("order", 1), InMemory::NAME, WorkerId::new(1), beginning);
    begun.entries = vec![
        Entry::ActionStarted { step: 0 },
        Entry::ActionDone { step: 0, output },
        Entry::ActionStarted { step: 1 },
    ];
    world.store.inner.create(begun).await.unwrap();
    assert!(orders.cancel(PARENT).await.unwrap());
    assert_eq!(orders.recover().await.unwrap().resumed, [PARENT]);
    let tree = world.until(&orders, PARENT, Status::Compensated).await;
    assert_eq!(tree.reason.as_deref(), Some("cancelled"));
    let child = world.until(&shipments, shipment_id(), Status::Compensated).await;
    assert_eq!(child.reason.as_deref(), Some("cancelled before it started"));
    let parent = Parent { saga: PARENT.get(), step: "ship".to_owned(), holds: true };
    let late = shipments.create(shipment_id(), &Arc::new(7), &input, vec![parent.entry()]).await;
    assert!(matches!(late, Ok(None)), "{late:?}");
    world.clock.sleep(MINUTE).await;
    assert_eq!(names(&world.seen()), ["undo reserve"]);
    assert_eq!(shipments.stats().active, 0);
}

/// Returns a parent that another worker resumes after `age`. The first one died when it started a pivot child, which is
/// not in the store. Children are kept for an hour.
async fn without_its_child(world: &World, age: Duration) -> (Sagas, Sagas) {
    let mut saga = Definition::builder("shipment", 1).can_be_child();
    let book = world.step(&mut saga, "book", Duration::ZERO);
    let shipments = world.executor_with(saga, config().retention(HOUR));
    let mut saga = Definition::builder("order", 1);
    let ship = saga.step("ship").kind(Kind::Pivot);
    ship.child(&shipments, |order: &u32, ()| *order, book);
    let orders = world.executor(saga);
    let input = buttress::Codec::encode(&InMemory, &Arc::new(7_u32)).unwrap();
    let beginning = orders.core.definition.inner.beginning(input);
    let mut begun = NewSaga::new(PARENT, ("order", 1), InMemory::NAME, WorkerId::new(1), beginning);
    begun.entries = vec![Entry::ActionStarted { step: 0 }];
    world.store.inner.create(begun).await.unwrap();
    world.clock.sleep(age).await;
    assert_eq!(orders.recover().await.unwrap().resumed, [PARENT]);
    (orders, shipments)
}

#[tokio::test(start_paused = true)]
async fn a_pivot_child_that_may_have_been_purged_is_not_started_again() {
    let world = World::new();
    let (orders, shipments) = without_its_child(&world, HOUR).await;
    let tree = world.until(&orders, PARENT, Status::Stuck).await;
    assert!(tree.reason.unwrap().contains("its retention is over"));
    assert_eq!(shipments.state(shipment_id()).await.unwrap(), None);
    assert_eq!(world.seen().len(), 0);
    // Within its retention it cannot be gone, so it was not created.
    let world = World::new();
    let (orders, _) = without_its_child(&world, HOUR - MINUTE).await;
    world.until(&orders, PARENT, Status::Completed).await;
    assert_eq!(names(&world.seen()), ["book"]);
}

/// The world of children in a store of their own.
fn with_another_store(world: &World) -> World {
    World { store: Faulty::new(MemoryStore::new(world.clock.clone())), ..world.clone() }
}

/// The store of the child is unavailable: the parent waits for it, and logs no separate failure.
#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_of_the_child_delays_its_parent() {
    let world = World::new();
    let there = with_another_store(&world);
    let (shipments, pick) = shipments(&there);
    let (order, _) = order_of(&world, &shipments, pick, charged(&world));
    let orders = world.executor(order);
    there.store.set(Fault::NoLoads);
    let execution = orders.start_as(PARENT, 7).await.unwrap();
    world.clock.sleep(HOUR).await;
    assert_eq!(orders.stats().active, 1);
    assert_eq!(orders.stats().store_failed, 0);
    assert!((10..1000).contains(&shipments.stats().store_failed), "{:?}", shipments.stats());
    there.store.set(Fault::None);
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
    assert_eq!(names(&world.seen()), ["reserve", "pick", "book", "charge"]);
}

/// A resumed parent that waits for its child for hours leaves its turn to another saga.
#[tokio::test(start_paused = true)]
async fn a_resumed_parent_that_waits_for_its_child_takes_no_room() {
    let world = World::new();
    let process = |world: &World| {
        let mut saga = Definition::builder("shipment", 1).can_be_child();
        saga.step("truck").wait(|_, ()| HOUR);
        let book = world.step(&mut saga, "book", Duration::ZERO);
        let shipments = world.executor(saga);
        let (order, _) = order_of(world, &shipments, book, charged(world));
        (world.executor_with(order, config().max_resumed(1)), shipments)
    };
    let (orders, _) = process(&world);
    drop(orders.start_as(PARENT, 7).await.unwrap());
    world.clock.sleep(MINUTE).await;
    orders.shut_down().await.unwrap();
    let (orders, shipments) = process(&world);
    assert_eq!(orders.recover().await.unwrap().resumed, [PARENT]);
    world.clock.sleep(MINUTE).await;
    assert_eq!((orders.stats().active, orders.core.resumed()), (1, 0));
    assert_eq!(orders.core.slots.available_permits(), 1);
    world.until(&orders, PARENT, Status::Completed).await;
    world.until(&shipments, shipment_id(), Status::Completed).await;
}

/// The undo of a step finds that its child is being created: it waits for the child, and undoes it.
#[tokio::test(start_paused = true)]
async fn an_undo_beside_a_start_of_the_child_undoes_the_child() {
    let world = World::new();
    let there = with_another_store(&world);
    let (shipments, pick) = shipments(&there);
    let (order, _) = order_of(&world, &shipments, pick, |_| {});
    let orders = world.executor(order);
    there.store.set(Fault::NoCreations);
    let execution = orders.start_as(PARENT, 7).await.unwrap();
    world.clock.sleep(SECOND).await;
    // The start waits for the store. Another undo of the step comes, of a worker that owns the parent now.
    let child = crate::saga::run::child::Child::new(
        shipments.clone(),
        (PARENT, "ship"),
        true,
        pick.number(),
    );
    let terms = crate::saga::run::attempt::Terms {
        key: StepKey::new(PARENT, "ship".into(), Direction::Undo),
        cut: None,
        clock: world.clock.clone(),
        doubt: false,
        permit: orders.core.lease.permit(),
        hint: None,
        bond: None,
    };
    let undone = tokio::spawn(child.attempt(|| Ok(7), terms));
    world.clock.sleep(SECOND).await;
    assert!(!undone.is_finished(), "the child may still be created");
    there.store.set(Fault::None);
    let undone = undone.await.unwrap();
    assert!(matches!(undone, crate::saga::run::attempt::Attempt::Done(_)), "{undone:?}");
    let child = shipments.state(shipment_id()).await.unwrap().unwrap();
    assert_eq!((child.status, child.reason.as_deref()), (Status::Compensated, Some("cancelled")));
    assert_eq!(execution.await.unwrap().status(), Status::Compensated);
    assert_eq!(names(&world.seen()), ["reserve", "pick", "undo pick", "undo reserve"]);
}

/// Only the parent is resumed: its process runs the child that the undo cancels.
#[tokio::test(start_paused = true)]
async fn the_process_of_a_parent_continues_its_waiting_child() {
    let world = World::new();
    let process = || {
        let (shipments, pick) = shipments(&world);
        let (order, _) = order_of(&world, &shipments, pick, |saga| {
            saga.step("paid").signal::<u32>(|_, ()| None);
        });
        (world.executor(order), shipments)
    };
    let (orders, shipments) = process();
    drop(orders.start_as(PARENT, 7).await.unwrap());
    world.until(&orders, PARENT, Status::Waiting).await;
    orders.shut_down().await.unwrap();
    shipments.shut_down().await.unwrap();
    let (orders, _shipments) = process();
    assert!(orders.cancel(PARENT).await.unwrap());
    assert_eq!(orders.recover().await.unwrap().resumed, [PARENT]);
    world.until(&orders, PARENT, Status::Compensated).await;
    let undone = ["reserve", "pick", "book", "undo book", "undo pick", "undo reserve"];
    assert_eq!(names(&world.seen()), undone);
}
