//! Stuck sagas and the actions of operators; the visible state of a saga.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_durable::saga::{
    Definition, Executor, Kind, Page, Resolution, SagaError, Status, StepStatus,
};

use super::world::*;

/// Two steps, the second refused; the undo of the first behaves as `undo` says.
fn stuck_undo(world: &World, undo: &'static [Do]) -> buttress_durable::saga::Builder<u32> {
    let mut saga = Definition::builder("test", 1);
    saga.step("a")
        .action((), world.service("a", &[Answer(1)], Duration::ZERO), |input: &u32, ()| *input)
        .undo((), world.service("undo a", undo, Duration::ZERO), |_, (), output| output)
        .add();
    refused_at(&mut saga, world, "b");
    saga
}

#[tokio::test(start_paused = true)]
async fn an_undo_is_retried_then_the_saga_is_stuck_until_somebody_retries() {
    let world = World::new();
    let sagas = executor(stuck_undo(&world, &[Refuse, Break, Never, Answer(0)]));
    // The third attempt never answers, and no limit is set: an undo has only the limit of its own
    // step.
    let execution = sagas.start(7).await.unwrap();
    buttress::Clock::default().sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.seen(), ["a", "b", "undo a", "undo a", "undo a"]);
    assert_eq!(world.times()[3].0, 100);
    assert_eq!(world.times()[4].0, 300);
    drop(execution);

    let world = World::new();
    let sagas = executor(stuck_undo(&world, &[Refuse, Refuse, Break, Answer(0)]));
    let report = sagas.run_to_end(7).await.unwrap();
    assert_ended(&report, Status::Stuck, Some("undo of a: broken"));
    let stats = sagas.stats();
    assert_eq!((stats.stuck, stats.compensations_failed, stats.active), (1, 1, 0));
    let again = sagas.retry(report.id()).await.unwrap().await.unwrap();
    assert_ended(&again, Status::Compensated, Some("b: refused"));
    let tree = sagas.state(report.id()).await.unwrap().unwrap();
    assert_eq!(
        tree.reason.as_deref(),
        Some("b: refused"),
        "why it was undone, not why it was stuck"
    );
    assert_eq!(world.seen().len(), 6);
    assert_eq!(world.keys("undo a"), vec![format!("{}/a/undo", report.id()); 4]);
    let ended = sagas.retry(report.id()).await.unwrap_err();
    assert!(matches!(ended, SagaError::NotPossible { .. }), "{ended}");
    assert_eq!(sagas.stats().compensated, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_undo_can_be_skipped() {
    let world = World::new();
    let sagas = executor(stuck_undo(&world, &[Refuse]));
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Stuck);
    let skipped = sagas.skip(report.id()).await.unwrap().await.unwrap();
    assert_eq!(skipped.status(), Status::Compensated);
    assert_eq!(world.seen().len(), 5, "nothing was called again");
}

#[tokio::test(start_paused = true)]
async fn a_pivot_in_doubt_is_resolved_either_way() {
    for happened in [true, false] {
        let world = World::new();
        let mut saga = sequence(&world, &[("a", &[Answer(1)])]);
        let pivot = saga
            .step("pivot")
            .kind(Kind::Pivot)
            .action((), world.service("pivot", &[Break], Duration::ZERO), |input: &u32, ()| *input)
            .add();
        let last = saga
            .step("last")
            .kind(Kind::Retryable)
            .needs(pivot)
            .action((), world.service("last", &[Answer(3)], Duration::ZERO), |_: &u32, pivot| {
                *pivot
            })
            .add();
        let sagas = executor(saga);
        let report = sagas.run_to_end(7).await.unwrap();
        assert_ended(&report, Status::Stuck, Some("pivot: broken"));
        assert!(sagas.skip(report.id()).await.is_err(), "there is no undo to be skipped");
        let wrong = sagas.resolve(report.id(), last, Resolution::Happened(1)).await;
        assert!(matches!(wrong, Err(SagaError::NotPossible { .. })), "another step");
        let resolution = if happened { Resolution::Happened(42) } else { Resolution::DidNotHappen };
        let report = sagas.resolve(report.id(), pivot, resolution).await.unwrap().await.unwrap();
        if happened {
            assert_eq!(report.status(), Status::Completed);
            assert_eq!(report.output(pivot).as_deref(), Some(&42));
            assert_eq!(world.seen().last().unwrap(), "last");
        } else {
            assert_eq!(report.status(), Status::Compensated);
            assert_eq!(world.seen().last().unwrap(), "undo a");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_retryable_step_that_is_stuck_is_retried() {
    let world = World::new();
    let mut saga = Definition::builder("test", 1);
    saga.step("a")
        .kind(Kind::Retryable)
        .action(
            (),
            world.service("a", &[Refuse, Refuse, Break, Answer(1)], Duration::ZERO),
            |input: &u32, ()| *input,
        )
        .definite(refusals)
        .add();
    let sagas = executor(saga);
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Stuck);
    let report = sagas.retry(report.id()).await.unwrap().await.unwrap();
    assert_eq!(report.status(), Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn the_state_of_a_saga_is_a_tree() {
    let world = World::new();
    let sagas = executor(stuck_undo(&world, &[Refuse]));
    let report = sagas.run_to_end(7).await.unwrap();
    let tree = sagas.state(report.id()).await.unwrap().unwrap();
    assert_eq!(tree.status, Status::Stuck);
    assert_eq!(tree.steps[0].status, StepStatus::UndoFailed);
    let text = format!(
        "test {}: stuck (undo of a: refused)\n├─ a: undo failed, 3 attempts (refused)\n└─ b: failed, after a (refused)",
        report.id()
    );
    assert_eq!(tree.to_string(), text);
    assert!(sagas.state(buttress_durable::saga::SagaId::new(1)).await.unwrap().is_none());
    let stuck = sagas.list(Page::first(10).status(Status::Stuck)).await.unwrap();
    assert_eq!(stuck.iter().map(|saga| saga.id).collect::<Vec<_>>(), [report.id()]);
}

#[tokio::test(start_paused = true)]
async fn the_hook_hears_every_end_and_the_stats_add_up() {
    let world = World::new();
    let ends = Arc::new(Mutex::new(Vec::new()));
    let heard = ends.clone();
    let built =
        sequence(&world, &[("a", &[Answer(1)]), ("b", &[Answer(1), Refuse])]).build().unwrap();
    let config = config().on_end(move |report| heard.lock().unwrap().push(report.status()));
    let sagas = Executor::in_memory(built, config).unwrap();
    for _ in 0..3 {
        let _ = sagas.run_to_end(7).await.unwrap();
    }
    let ended = ends.lock().unwrap().clone();
    assert_eq!(ended, [Status::Completed, Status::Compensated, Status::Compensated]);
    let stats = sagas.stats();
    assert_eq!((stats.started, stats.completed, stats.compensated), (3, 1, 2));
    assert_eq!((stats.steps_executed, stats.steps_failed), (4, 2));
    assert_eq!((stats.compensations_executed, stats.active), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handle_of_another_definition_decides_nothing() {
    // Regression: it had the same number and type.
    let world = World::new();
    let mut other = Definition::<u32>::builder("other", 1);
    let foreign = other
        .step("other")
        .action((), world.service("other", &[Answer(1)], Duration::ZERO), |input: &u32, ()| *input)
        .add();
    let mut saga = Definition::<u32>::builder("test", 1);
    let own = saga
        .step("a")
        .kind(Kind::Pivot)
        .action((), world.service("a", &[Break], Duration::ZERO), |input: &u32, ()| *input)
        .add();
    let sagas = executor(saga);
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Stuck);
    let decided = sagas.resolve(report.id(), foreign, Resolution::Happened(99)).await;
    assert!(matches!(decided, Err(SagaError::NotPossible { .. })), "{decided:?}");
    let decided = sagas.resolve(report.id(), own, Resolution::Happened(99)).await.unwrap();
    let report = decided.await.unwrap();
    assert_eq!(report.output(own).as_deref(), Some(&99));
    assert_eq!(report.output(foreign), None);
}
