//! A store that hangs instead of failing: no caller waits beyond the patience.

use std::time::Duration;

use buttress::{Clock, InMemory, StoreError};
use buttress_durable::saga::{Executor, Page, SagaError, SagaId, Status};
use buttress_sim::inject::Injection;

use super::stores::{Flaky, flaky};
use super::world::*;
use crate::support::ms;

const PATIENCE: Duration = ms(500);

type Sagas = Executor<u32, InMemory, Flaky>;

fn sagas(world: &World, store: &Flaky) -> Sagas {
    let saga = sequence(world, &[("a", &[Answer(1)]), ("b", &[Answer(2)])]);
    let config = config().patience(PATIENCE);
    Executor::new(saga.build().unwrap(), store.clone(), config).unwrap()
}

/// Returns the result of `asking`, and the milliseconds that it took.
async fn timed<T>(asking: impl Future<Output = T>) -> (T, u128) {
    let began = Clock::default().now();
    let answer = asking.await;
    (answer, (Clock::default().now() - began).as_millis())
}

/// Makes `operation` never answer from now on, with or without an effect.
fn hang(store: &Flaky, operation: &'static str, done: bool) -> Injection {
    let calls = store.hook().faults.on(operation).always();
    if done { calls.hang_after() } else { calls.hang_before() }
}

fn is_unknown(error: &SagaError) -> bool {
    matches!(error, SagaError::Store { error, .. } if error.is_transient())
}

async fn ended(sagas: &Sagas, id: SagaId) -> Status {
    loop {
        let status = sagas.state(id).await.unwrap().unwrap().status;
        if status.is_ended() {
            return status;
        }
        tokio::time::advance(ms(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_returns_in_time_and_is_found_if_it_was_done() {
    for (operation, done) in [("renew_worker", false), ("create", false), ("create", true)] {
        let (world, id) = (World::new(), SagaId::new(5));
        let store = flaky();
        let sagas = sagas(&world, &store);
        let hang = hang(&store, operation, done);
        let starts =
            async { tokio::join!(sagas.start_as(id, 7), sagas.start_as(SagaId::new(6), 7)) };
        let ((one, other), waited) = timed(starts).await;
        assert!(is_unknown(&one.unwrap_err()) && is_unknown(&other.unwrap_err()));
        assert_eq!(waited, PATIENCE.as_millis(), "{operation}");
        hang.lift();
        let recovery = sagas.recover().await.unwrap();
        assert_eq!(recovery.resumed.len(), if done { 2 } else { 0 }, "{operation}");
        if done {
            assert_eq!(ended(&sagas, id).await, Status::Completed);
            assert_eq!(world.seen().len(), 4, "each step once");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_of_a_saga_is_told_and_the_saga_goes_on() {
    for done in [false, true] {
        let world = World::new();
        let store = flaky();
        let sagas = sagas(&world, &store);
        let hang = hang(&store, "append", done);
        let execution = sagas.start(7).await.unwrap();
        let id = execution.id();
        let (ending, waited) = timed(execution).await;
        assert!(is_unknown(&ending.unwrap_err()));
        assert_eq!(waited, PATIENCE.as_millis());
        hang.lift();
        assert_eq!(ended(&sagas, id).await, Status::Completed);
        assert_eq!(world.seen(), ["a", "b"], "each step once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_does_not_wait_for_a_lease_that_cannot_be_renewed() {
    let world = World::new();
    let store = flaky();
    let mut saga = buttress_durable::saga::Definition::<u32>::builder("test", 1);
    saga.step("a")
        .action((), world.service("a", &[Answer(1)], ms(5000)), |input: &u32, ()| *input)
        .add();
    saga.step("b")
        .action((), world.service("b", &[Answer(1)], ms(0)), |input: &u32, ()| *input)
        .add();
    let config = config().patience(PATIENCE).lease(ms(3000));
    let sagas = Executor::new(saga.build().unwrap(), store.clone(), config).unwrap();
    let execution = sagas.start(7).await.unwrap();
    hang(&store, "renew_worker", false);
    let (ending, waited) = timed(execution).await;
    assert!(is_unknown(&ending.unwrap_err()));
    assert_eq!(waited, 5500);
    assert_eq!(world.seen(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn every_method_returns_in_time() {
    let world = World::new();
    let store = flaky();
    let sagas = sagas(&world, &store);
    let id = sagas.run_to_end(7).await.unwrap().id();
    let store_error = |error: SagaError| match error {
        SagaError::Store { error, .. } => error,
        other => panic!("{other}"),
    };
    for operation in ["load", "request_cancel", "list", "take_abandoned", "release_worker"] {
        hang(&store, operation, false);
        let asking = async {
            match operation {
                "load" => {
                    let (retried, skipped) = tokio::join!(sagas.retry(id), sagas.skip(id));
                    assert!(is_unknown(&retried.unwrap_err()) && is_unknown(&skipped.unwrap_err()));
                    Ok(())
                }
                "request_cancel" => sagas.cancel(id).await.map(drop),
                "list" => sagas.list(Page::first(9)).await.map(drop),
                "take_abandoned" => sagas.recover().await.map(drop),
                _ => sagas.shut_down().await,
            }
        };
        let (answer, waited): (Result<(), StoreError>, u128) = timed(asking).await;
        match operation {
            "load" => answer.unwrap(),
            _ => assert!(answer.unwrap_err().is_transient()),
        }
        assert_eq!(waited, PATIENCE.as_millis(), "{operation}");
        if operation == "load" {
            let (state, waited) = timed(sagas.state(id)).await;
            assert!(state.map_err(store_error).unwrap_err().is_transient());
            assert_eq!(waited, PATIENCE.as_millis());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shut_down_does_not_wait_for_a_write_that_hangs() {
    let world = World::new();
    let store = flaky();
    let sagas = sagas(&world, &store);
    hang(&store, "append", false);
    let execution = sagas.start(7).await.unwrap();
    let (shut, waited) = timed(sagas.shut_down()).await;
    shut.unwrap();
    assert!(waited <= PATIENCE.as_millis(), "{waited}");
    assert!(execution.await.is_err());
}
