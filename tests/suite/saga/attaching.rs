//! Starting a saga a second time.

use std::sync::Arc;
use std::time::Duration;

use buttress::{Clock, Json, StoreErrorKind};
use buttress_durable::saga::{
    Call, Definition, Executor, MemoryStore, SagaError, SagaId, Status, StepHandle,
};
use tower::{BoxError, service_fn};

use super::world::*;
use crate::support::lines::Lines;
use crate::support::ms;

const ID: SagaId = SagaId::new(5);

type Bytes = Executor<u32, Json, MemoryStore<Vec<u8>>>;

/// One step of 100 ms with the input 40 and the output 41.
fn worker(store: &MemoryStore<Vec<u8>>, version: u32) -> (Bytes, StepHandle<u32>) {
    let mut saga = Definition::<u32>::builder("test", version).codec(Json);
    let add = service_fn(async |call: Call<u32>| {
        Clock::default().sleep(ms(100)).await;
        Ok::<u32, BoxError>(call.into_request() + 1)
    });
    let step = saga.step("add").action((), add, |input: &u32, ()| *input).add();
    let config = config().patience(ms(5000));
    (Executor::new(saga.build().unwrap(), store.clone(), config).unwrap(), step)
}

fn is_known(started: Result<buttress_durable::saga::Execution, SagaError>) -> bool {
    matches!(started, Err(SagaError::AlreadyStarted { saga }) if saga == ID)
}

fn is_conflict(started: Result<buttress_durable::saga::Execution, SagaError>) -> bool {
    matches!(started, Err(SagaError::Store { error, .. }) if error.kind() == StoreErrorKind::Conflict)
}

#[tokio::test(start_paused = true)]
async fn the_same_start_again_is_known_and_another_one_is_a_conflict() {
    let store = MemoryStore::of_bytes(Clock::default());
    let (here, _) = worker(&store, 1);
    let (there, _) = worker(&store, 1);
    let (newer, _) = worker(&store, 2);
    let execution = here.start_as(ID, 40).await.unwrap();
    let lines = Lines::capture();
    for sagas in [&here, &there] {
        assert!(is_known(sagas.start_as(ID, 40).await), "it runs");
        assert!(is_conflict(sagas.start_as(ID, 41).await), "with another input");
    }
    assert!(is_conflict(newer.start_as(ID, 40).await), "of another version");
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
    for sagas in [&here, &there] {
        assert!(is_known(sagas.start_as(ID, 40).await), "the saga has ended");
        assert!(is_conflict(sagas.start_as(ID, 41).await), "with another input");
    }
    assert_eq!(here.stats().started + there.stats().started + newer.stats().started, 1);
    assert_eq!(lines.levels(), (0, 0, 0), "the callers know");
    let conflict = here.start_as(ID, 41).await.err().unwrap().to_string();
    assert!(conflict.contains("other content under this id; start a new saga"), "{conflict}");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_attaches_waits_for_the_end_wherever_the_saga_runs() {
    let store = MemoryStore::of_bytes(Clock::default());
    let (here, step) = worker(&store, 1);
    let (there, step_there) = worker(&store, 1);
    let (one, two, three) = tokio::join!(
        here.start_or_attach(ID, 40),
        here.start_or_attach(ID, 40),
        there.start_or_attach(ID, 40)
    );
    let (one, two, three) = tokio::join!(one.unwrap(), two.unwrap(), three.unwrap());
    for (report, step) in [(one, step), (two, step), (three, step_there)] {
        let report = report.unwrap();
        assert_eq!((report.id(), report.status()), (ID, Status::Completed));
        assert_eq!(report.output(step), Some(Arc::new(41)));
    }
    let report = there.start_or_attach(ID, 40).await.unwrap().await.unwrap();
    assert_eq!(report.output(step_there), Some(Arc::new(41)), "after its end");
    assert!(is_conflict(there.start_or_attach(ID, 41).await));
    assert_eq!(here.stats().started + there.stats().started, 1);
}

#[tokio::test(start_paused = true)]
async fn an_attached_execution_returns_how_a_saga_failed() {
    let world = World::new();
    let sagas = executor(sequence(&world, &[("a", &[Answer(1)]), ("b", &[Refuse])]));
    let first = sagas.start_as(ID, 7).await.unwrap();
    let second = sagas.start_or_attach(ID, 7).await.unwrap();
    let (first, second) = tokio::join!(first, second);
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ended(&second, Status::Compensated, Some("b: refused"));
    assert_eq!(first.steps(), second.steps());
}

#[tokio::test(start_paused = true)]
async fn inputs_of_plain_types_are_compared_in_memory_and_others_where_that_is_asked_for() {
    let world = World::new();
    let sagas = executor(sequence(&world, &[("a", &[Answer(1)])]));
    drop(sagas.start_as(ID, 7).await.unwrap().await.unwrap());
    assert!(is_known(sagas.start_as(ID, 7).await));
    assert!(is_conflict(sagas.start_as(ID, 8).await));

    #[derive(PartialEq)]
    struct Order(u32);
    for compares in [false, true] {
        let mut saga = Definition::<Order>::builder("test", 1);
        if compares {
            saga = saga.compare_inputs();
        }
        let service = world.service("a", &[Answer(1)], Duration::ZERO);
        saga.step("a").action((), service, |input: &Order, ()| input.0).add();
        let sagas = Executor::in_memory(saga.build().unwrap(), config()).unwrap();
        drop(sagas.start_as(ID, Order(7)).await.unwrap().await.unwrap());
        assert_eq!(is_known(sagas.start_as(ID, Order(7)).await), compares);
        assert!(is_conflict(sagas.start_as(ID, Order(8)).await));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attached_execution_ends_with_the_executor_and_when_it_is_dropped() {
    let store = MemoryStore::of_bytes(Clock::default());
    let (here, _) = worker(&store, 1);
    let (there, _) = worker(&store, 1);
    let execution = here.start_as(ID, 40).await.unwrap();
    drop(there.start_or_attach(ID, 40).await.unwrap());
    let attached = there.start_or_attach(ID, 40).await.unwrap();
    there.shut_down().await.unwrap();
    assert!(matches!(attached.await, Err(SagaError::ShutDown { .. })));
    assert_eq!(execution.await.unwrap().status(), Status::Completed);
}
