//! Children that are stuck, and operators.

use super::*;

/// An order whose shipment is stuck until `mended` is set: its step `action` fails as a pivot, or its undo fails.
struct Broken {
    world: World,
    mended: Arc<AtomicBool>,
}

impl Broken {
    fn new() -> Self {
        Self { world: World::new(), mended: Arc::default() }
    }

    /// A service that fails until it is fixed.
    fn service<R: Send + 'static>(
        &self,
        name: &'static str,
    ) -> impl tower::Service<Call<R>, Response = u64, Error = BoxError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        let (world, mended) = (self.world.clone(), self.mended.clone());
        service_fn(move |_: Call<R>| {
            let is_mended = mended.load(Ordering::SeqCst);
            world.note(name);
            async move { if is_mended { Ok::<u64, BoxError>(1) } else { Err("broken".into()) } }
        })
    }

    fn mend(&self) {
        self.mended.store(true, Ordering::SeqCst);
    }

    /// Shipments whose undo is broken.
    fn without_undo(&self) -> (Sagas, StepHandle<u64>) {
        let mut saga = Definition::builder("shipment", 1).can_be_child();
        let book = service_fn(async |_: Call<u32>| Ok::<u64, BoxError>(1));
        let book = saga.step("book").action((), book, |order: &u32, ()| *order);
        let book = book.undo((), self.service::<()>("undo book"), |_, (), _| ()).add();
        (self.world.executor_with(saga, fast()), book)
    }
}

fn fast() -> Config {
    let once = buttress::retry::Backoff::fixed(SECOND);
    config().undo_retry(1, once).run_again(1, once)
}

#[tokio::test(start_paused = true)]
async fn a_stuck_child_makes_its_parent_stuck_until_both_are_retried() {
    let broken = Broken::new();
    let world = &broken.world;
    let mut saga = Definition::builder("shipment", 1).can_be_child();
    let book = saga.step("book").kind(Kind::Pivot);
    let book = book.action((), broken.service::<u32>("book"), |order: &u32, ()| *order).add();
    let shipments = world.executor_with(saga, fast());
    let mut saga = Definition::builder("order", 1);
    world.step(&mut saga, "reserve", Duration::ZERO);
    let ship = saga.step("ship").kind(Kind::Pivot);
    let ship = ship.child(&shipments, |order: &u32, ()| *order, book);
    let orders = world.executor(saga);
    let report = orders.start_as(PARENT, 7).await.unwrap().await.unwrap();
    let why = format!("ship: child {} is stuck: book: broken", shipment_id());
    assert_eq!((report.status(), report.reason()), (Status::Stuck, Some(why.as_str())));
    let tree = orders.state(PARENT).await.unwrap().unwrap();
    assert_eq!((tree.steps[1].status, tree.status), (StepStatus::Acting, Status::Stuck));
    assert!(orders.skip(PARENT).await.is_err(), "no undo is stuck");
    // Only the parent is retried: it finds the child stuck as before.
    let report = orders.retry(PARENT).await.unwrap().await.unwrap();
    assert_eq!((report.status(), report.reason()), (Status::Stuck, Some(why.as_str())));
    broken.mend();
    let child = shipments.retry(shipment_id()).await.unwrap();
    let report = orders.retry(PARENT).await.unwrap().await.unwrap();
    assert_eq!(child.await.unwrap().status(), Status::Completed);
    assert_eq!((report.status(), report.output(ship)), (Status::Completed, Some(Arc::new(1))));
    assert_eq!(names(&world.seen()), ["reserve", "book", "book"]);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_is_stuck_at_its_undo_makes_its_parent_stuck_at_the_undo() {
    for is_skipped in [false, true] {
        let broken = Broken::new();
        let world = &broken.world;
        let (shipments, book) = broken.without_undo();
        let (order, _) = order_of(world, &shipments, book, refused(world));
        let orders = world.executor(order);
        let report = orders.start_as(PARENT, 7).await.unwrap().await.unwrap();
        let why = format!("undo of ship: child {} is stuck: undo of book: broken", shipment_id());
        assert_eq!((report.status(), report.reason()), (Status::Stuck, Some(why.as_str())));
        let tree = orders.state(PARENT).await.unwrap().unwrap();
        assert_eq!(tree.steps[1].status, StepStatus::Undoing);
        assert_eq!(names(&world.seen()), ["reserve", "charge", "undo book"]);
        let execution = if is_skipped {
            orders.skip(PARENT).await.unwrap()
        } else {
            broken.mend();
            let child = shipments.retry(shipment_id()).await.unwrap();
            assert_eq!(child.await.unwrap().status(), Status::Compensated);
            orders.retry(PARENT).await.unwrap()
        };
        assert_eq!(execution.await.unwrap().status(), Status::Compensated);
        let child = shipments.state(shipment_id()).await.unwrap().unwrap().status;
        let (wanted, undone) = match is_skipped {
            true => (Status::Stuck, "undo reserve"),
            false => (Status::Compensated, "undo book, undo reserve"),
        };
        assert_eq!(child, wanted);
        assert_eq!(names(&world.seen())[3..].join(", "), undone);
    }
}

/// The step beside the child ends first, and its end is recorded. No step begins after it.
#[tokio::test(start_paused = true)]
async fn steps_beside_a_stuck_child_end_before_the_saga_is_stuck() {
    let broken = Broken::new();
    let world = &broken.world;
    let (shipments, book) = broken.without_undo();
    let mut saga = Definition::builder("order", 1);
    saga.parallel(|saga| {
        saga.step("ship").child(&shipments, |order: &u32, ()| *order, book);
        world.step(saga, "slow", MINUTE);
        refused(world)(saga);
    });
    world.step(&mut saga, "later", Duration::ZERO);
    let orders = world.executor(saga);
    let report = orders.start_as(PARENT, 7).await.unwrap().await.unwrap();
    assert_eq!(report.status(), Status::Stuck);
    let statuses: Vec<_> = report.steps().iter().map(|(_, status)| *status).collect();
    let wanted = [StepStatus::Acting, StepStatus::Done, StepStatus::Failed, StepStatus::Pending];
    assert_eq!(statuses, wanted);
    broken.mend();
    drop(shipments.retry(shipment_id()).await.unwrap());
    let report = orders.retry(PARENT).await.unwrap().await.unwrap();
    assert_eq!(report.status(), Status::Compensated);
    world.until(&shipments, shipment_id(), Status::Compensated).await;
    assert_eq!(names(&world.seen()), ["slow", "charge", "undo book", "undo book", "undo slow"]);
}

/// Another saga has the id of the child: nothing of it is touched.
#[tokio::test(start_paused = true)]
async fn a_child_whose_id_another_saga_has_makes_its_parent_stuck() {
    let world = World::new();
    let (shipments, pick) = shipments(&world);
    let alone = shipments.start_as(shipment_id(), 7).await.unwrap();
    let (order, _) = order_of(&world, &shipments, pick, charged(&world));
    let orders = world.executor(order);
    let report = orders.start_as(PARENT, 7).await.unwrap().await.unwrap();
    let why = "is another saga with this id, of \"shipment\"";
    assert_eq!(report.status(), Status::Stuck);
    assert!(report.reason().unwrap().contains(why), "{report:?}");
    assert_eq!(alone.await.unwrap().status(), Status::Completed);
}

/// A child that was cancelled behind the back of its parent: the parent is stuck after its commit, and completes without
/// the child once an operator decides so.
#[tokio::test(start_paused = true)]
async fn a_child_that_cannot_be_committed_is_for_an_operator() {
    let Held { world, orders, execution, .. } = held().await;
    world.clock.sleep(MINUTE).await;
    assert!(world.store.inner.request_cancel(shipment_id()).await.unwrap());
    let report = execution.await.unwrap();
    let why = format!("ship: child {} is compensated, although its parent holds it", shipment_id());
    assert_eq!((report.status(), report.reason()), (Status::Stuck, Some(why.as_str())));
    let again = orders.retry(PARENT).await.unwrap().await.unwrap();
    assert_eq!((again.status(), again.reason()), (Status::Stuck, Some(why.as_str())));
    let report = orders.skip(PARENT).await.unwrap().await.unwrap();
    assert_eq!(report.status(), Status::Completed);
}
