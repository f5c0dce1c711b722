//! Child sagas on each database.

use std::time::Duration;

use buttress::Clock;
use buttress_durable::saga::{
    Call, Config, Definition, Executor, Kind, SagaId, Status, StepHandle, StepStatus, Tree,
};
use tokio::sync::watch;
use tower::{BoxError, service_fn};

use crate::db::{Db, on_each_database};
use crate::executors::{Bytes, Sagas, until};

const ID: SagaId = SagaId::new(77);

on_each_database! {
    a_child_completes_once_its_parent_does_in_another_process
    a_child_is_undone_with_its_parent
    only_the_parent_cancels_its_child
}

/// A child of one step, which can be undone.
fn shipments<D: Db>(store: &D::Store) -> (Sagas<D>, StepHandle<u32>) {
    let mut saga = Definition::<u32>::builder("shipment", 1).codec(Bytes).can_be_child();
    let done = service_fn(async |call: Call<u32>| Ok::<u32, BoxError>(call.into_request() + 1));
    let book = saga.step("book").action((), done, |input: &u32, ()| *input);
    let book = book.undo((), done, |input: &u32, (), _| *input).add();
    (Executor::new(saga.build().unwrap(), store.clone(), Config::new()).unwrap(), book)
}

/// A shipment, and a last step that ends when `gate` is set to its result.
fn orders<D: Db>(store: &D::Store, gate: &watch::Receiver<Option<bool>>) -> [Sagas<D>; 2] {
    let (shipments, book) = shipments::<D>(store);
    let mut saga = Definition::<u32>::builder("order", 1).codec(Bytes);
    let ship = saga.step("ship").child(&shipments, |order: &u32, ()| *order, book);
    let gate = gate.clone();
    let charge = service_fn(move |call: Call<u32>| {
        let mut gate = gate.clone();
        async move {
            match *gate.wait_for(Option::is_some).await? {
                Some(true) => Ok::<u32, BoxError>(call.into_request()),
                _ => Err("declined".into()),
            }
        }
    });
    let last = saga.step("charge").kind(Kind::Pivot).needs(ship);
    last.action((), charge, |_: &u32, tracking| *tracking).definite(|_| true).add();
    [Executor::new(saga.build().unwrap(), store.clone(), Config::new()).unwrap(), shipments]
}

/// Returns the child of a parent, once it has the status.
async fn child_of<D: Db>([orders, shipments]: &[Sagas<D>; 2], status: Status) -> Tree {
    let (clock, began) = (Clock::default(), Clock::default().now());
    loop {
        let tree = orders.state(ID).await.unwrap().unwrap();
        if let Some(child) = tree.steps[0].child {
            let child = until::<D>(shipments, child, status).await;
            assert_eq!(child.parent, Some(ID));
            return child;
        }
        assert!(clock.now() - began < Duration::from_secs(60), "no child: {tree}");
        clock.sleep(Duration::from_millis(5)).await;
    }
}

async fn shut_down<D: Db>(executors: &[Sagas<D>; 2]) {
    for sagas in executors {
        sagas.shut_down().await.unwrap();
    }
}

/// Waits until the last step of the parent is in progress.
async fn until_charged<D: Db>(orders: &Sagas<D>) {
    let (clock, began) = (Clock::default(), Clock::default().now());
    while orders.state(ID).await.unwrap().unwrap().steps[1].status != StepStatus::Acting {
        assert!(clock.now() - began < Duration::from_secs(60));
        clock.sleep(Duration::from_millis(5)).await;
    }
}

/// The first process stops while the child is held. The second one resumes the parent, and commits the child.
async fn a_child_completes_once_its_parent_does_in_another_process<D: Db>(db: D) {
    let (open, gate) = watch::channel(None);
    let here = orders::<D>(db.store(), &gate);
    drop(here[0].start_as(ID, 7).await.unwrap());
    let held = child_of::<D>(&here, Status::Waiting).await;
    assert_eq!(held.until, None, "its parent decides");
    until_charged::<D>(&here[0]).await;
    let stopping = here[0].clone();
    let stopped = tokio::spawn(async move { stopping.shut_down().await });
    let (_, closed) = watch::channel(None);
    let there = orders::<D>(&db.another().await, &closed);
    // The first process waits for its step in progress.
    open.send(Some(true)).unwrap();
    stopped.await.unwrap().unwrap();
    here[1].shut_down().await.unwrap();
    there[0].recover().await.unwrap();
    until::<D>(&there[0], ID, Status::Completed).await;
    until::<D>(&there[1], held.id, Status::Completed).await;
    assert_eq!((there[1].stats().woken, there[1].stats().completed), (1, 1));
    shut_down::<D>(&there).await;
}

async fn a_child_is_undone_with_its_parent<D: Db>(db: D) {
    let (open, gate) = watch::channel(None);
    let sagas = orders::<D>(db.store(), &gate);
    let execution = sagas[0].start_as(ID, 7).await.unwrap();
    let held = child_of::<D>(&sagas, Status::Waiting).await;
    open.send(Some(false)).unwrap();
    let report = execution.await.unwrap();
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some("charge: declined")));
    until::<D>(&sagas[1], held.id, Status::Compensated).await;
    assert_eq!(sagas[1].stats().compensations_executed, 1);
    shut_down::<D>(&sagas).await;
}

async fn only_the_parent_cancels_its_child<D: Db>(db: D) {
    let (open, gate) = watch::channel(None);
    let sagas = orders::<D>(db.store(), &gate);
    let execution = sagas[0].start_as(ID, 7).await.unwrap();
    let held = child_of::<D>(&sagas, Status::Waiting).await;
    let error = sagas[1].cancel(held.id).await.unwrap_err();
    assert!(error.to_string().contains(&format!("cancel saga {ID}")), "{error}");
    assert!(sagas[0].cancel(ID).await.unwrap());
    open.send(Some(false)).unwrap();
    assert_eq!(execution.await.unwrap().status(), Status::Compensated);
    until::<D>(&sagas[1], held.id, Status::Compensated).await;
    shut_down::<D>(&sagas).await;
}
