//! How sagas end: failures, doubt, pivots, deadlines, cancellation.

use std::sync::Arc;
use std::time::Duration;

use buttress::circuit_breaker::CircuitBreakerLayer;
use buttress::retry::{self, Backoff, RetryLayer};
use buttress_durable::saga::{Definition, Kind, Status, StepStatus};
use tower::ServiceBuilder;

use super::world::*;
use crate::support::ms;

#[tokio::test(start_paused = true)]
async fn a_refusal_undoes_what_was_done_and_not_the_refused_step() {
    let world = World::new();
    let saga = sequence(&world, &[("a", &[Answer(1)]), ("b", &[Answer(2)]), ("c", &[Refuse])]);
    let report = run(saga).await;
    assert_ended(&report, Status::Compensated, Some("c: refused"));
    assert_eq!(world.seen(), ["a", "b", "c", "undo b", "undo a"]);
    let steps: Vec<StepStatus> = report.steps().iter().map(|(_, status)| *status).collect();
    assert_eq!(steps, [StepStatus::Undone, StepStatus::Undone, StepStatus::Failed]);
}

#[tokio::test(start_paused = true)]
async fn a_step_in_doubt_is_undone_first_and_without_an_output() {
    for (plan, why, at) in [
        (&[Never][..], "c: no answer in time", 1000),
        (&[Break][..], "c: broken", 0),
        (&[Panic][..], "c: panicked: a step", 0),
    ] {
        let world = World::new();
        let mut saga = sequence(&world, &[("a", &[Answer(1)]), ("b", &[Answer(2)])]);
        let noted = world.clone();
        saga.step("c")
            .timeout(Duration::from_secs(1))
            .action((), world.service("c", plan, Duration::ZERO), |input: &u32, ()| *input)
            .definite(refusals)
            .undo(
                (),
                world.service("undo c", &[Answer(0)], Duration::ZERO),
                move |_, (), output: Option<Arc<u32>>| noted.note(format!("with {output:?}")),
            )
            .add();
        assert_ended(&run(saga).await, Status::Compensated, Some(why));
        assert_eq!(world.seen(), ["a", "b", "c", "with None", "undo c", "undo b", "undo a"]);
        assert_eq!(world.times()[4], (at, "undo c".to_owned()), "the time limit is exact");
    }
}

#[tokio::test(start_paused = true)]
async fn an_undo_gets_the_output_of_its_step() {
    let world = World::new();
    let mut saga = buttress_durable::saga::Definition::builder("test", 1);
    let noted = world.clone();
    saga.step("a")
        .action((), world.service("a", &[Answer(41)], Duration::ZERO), |input: &u32, ()| *input)
        .undo(
            (),
            world.service("undo a", &[Answer(0)], Duration::ZERO),
            move |input, (), output| {
                noted.note(format!(
                    "with {input} and {}",
                    output.map_or(0, |output: Arc<u32>| *output)
                ));
            },
        )
        .add();
    refused_at(&mut saga, &world, "b");
    assert_eq!(run(saga).await.status(), Status::Compensated);
    assert_eq!(world.seen(), ["a", "b", "with 7 and 41", "undo a"]);
}

#[tokio::test(start_paused = true)]
async fn what_never_left_for_the_service_is_definite() {
    // The circuit is open: the service was never called, so there is nothing to undo.
    let world = World::new();
    let breaker = CircuitBreakerLayer::default().classify(buttress::AnyError);
    breaker.handle().force_open();
    let mut saga = sequence(&world, &[("a", &[Answer(1)])]);
    let layers = ServiceBuilder::new()
        .layer(breaker)
        .map_err(|error: StepError| -> tower::BoxError { error.into() });
    saga.step("b")
        .action(layers, world.service("b", &[Break], Duration::ZERO), |input: &u32, ()| *input)
        .undo((), world.service("undo b", &[Answer(0)], Duration::ZERO), |_, (), output| output)
        .add();
    let report = run(saga).await;
    assert_eq!(report.status(), Status::Compensated);
    assert_eq!(world.seen(), ["a", "undo a"]);
}

/// A saga of one step that a retry layer attempts `attempts` times, with this plan of the service.
fn retried(
    world: &World,
    attempts: u32,
    plan: &'static [Do],
) -> buttress_durable::saga::Builder<u32> {
    let mut saga = buttress_durable::saga::Definition::builder("test", 1);
    let retry = retry::Config::new().attempts(attempts).backoff(Backoff::fixed(ms(10)));
    let layers = ServiceBuilder::new()
        .layer(RetryLayer::new(retry).unwrap().classify(buttress::AnyError))
        .map_err(|error: StepError| -> tower::BoxError { error.into() });
    saga.step("a")
        .action(layers, world.service("a", plan, Duration::ZERO), |input: &u32, ()| *input)
        .definite(refusals)
        .undo((), world.service("undo a", &[Answer(0)], Duration::ZERO), |_, (), output| output)
        .add();
    saga
}

#[tokio::test(start_paused = true)]
async fn attempts_of_a_retry_carry_one_key_and_one_that_left_counts() {
    let world = World::new();
    let saga = retried(&world, 3, &[Break, Refuse, Break]);
    let sagas = executor(saga);
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(world.seen(), ["a", "a", "a", "undo a"]);
    let id = report.id();
    assert_eq!(world.keys("a"), vec![format!("{id}/a/action"); 3]);
    assert_eq!(world.keys("undo a"), [format!("{id}/a/undo")]);
}

/// Regression: the refusal of the second attempt was taken for the result of the first. A charge
/// that succeeded late was never undone.
#[tokio::test(start_paused = true)]
async fn a_refusal_says_nothing_of_an_attempt_before_it_that_was_lost() {
    for (plan, undone) in [(&[Break, Refuse][..], true), (&[Refuse, Refuse][..], false)] {
        let world = World::new();
        let saga = retried(&world, 2, plan);
        assert_ended(&run(saga).await, Status::Compensated, Some("a: refused"));
        assert_eq!(world.seen().contains(&"undo a".to_owned()), undone);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_the_request_is_made_is_definite() {
    let world = World::new();
    let mut saga = sequence(&world, &[("a", &[Answer(1)])]);
    saga.step("b")
        .action((), world.service("b", &[Answer(2)], Duration::ZERO), |_: &u32, ()| -> u32 {
            panic!("no request")
        })
        .undo((), world.service("undo b", &[Answer(0)], Duration::ZERO), |_, (), output| output)
        .add();
    let why = "b: making its request panicked: no request";
    assert_ended(&run(saga).await, Status::Compensated, Some(why));
    assert_eq!(world.seen(), ["a", "undo a"]);
}

/// A compensatable step, a pivot and a retryable step.
fn with_pivot(
    world: &World,
    pivot: &'static [Do],
    after: &'static [Do],
) -> buttress_durable::saga::Builder<u32> {
    let mut saga = sequence(world, &[("a", &[Answer(1)])]);
    for (name, kind, plan) in [("pivot", Kind::Pivot, pivot), ("after", Kind::Retryable, after)] {
        saga.step(name)
            .kind(kind)
            .timeout(Duration::from_secs(1))
            .action((), world.service(name, plan, Duration::ZERO), |input: &u32, ()| *input)
            .definite(refusals)
            .add();
    }
    saga
}

#[tokio::test(start_paused = true)]
async fn a_refused_pivot_unwinds() {
    let world = World::new();
    let report = run(with_pivot(&world, &[Refuse], &[Answer(3)])).await;
    assert_ended(&report, Status::Compensated, Some("pivot: refused"));
    assert_eq!(world.seen(), ["a", "pivot", "undo a"]);
}

#[tokio::test(start_paused = true)]
async fn a_pivot_in_doubt_is_run_again_with_its_key_until_it_is_definite() {
    for (last, status) in [(Answer(2), Status::Completed), (Refuse, Status::Compensated)] {
        let world = World::new();
        let plan: &'static [Do] = Box::leak(Box::new([Never, Break, last]));
        let report = run(with_pivot(&world, plan, &[Answer(3)])).await;
        assert_eq!(report.status(), status);
        let pivots: Vec<_> = world
            .times()
            .into_iter()
            .filter(|(_, what)| what == "pivot")
            .map(|(at, _)| at)
            .collect();
        assert_eq!(pivots, [0, 1100, 1300], "the limit, then waits of 100 and 200 ms");
        assert_eq!(world.keys("pivot"), vec![format!("{}/pivot/action", report.id()); 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retryable_step_is_run_until_it_is_done() {
    let world = World::new();
    let report = run(with_pivot(&world, &[Answer(2)], &[Refuse, Break, Answer(3)])).await;
    assert_ended(&report, Status::Completed, None);
    assert_eq!(world.seen(), ["a", "pivot", "after", "after", "after"]);
    assert_eq!(world.times()[4].0, 300);
}

/// Adds a step that takes `time` and can be undone.
fn slow_step(
    saga: &mut buttress_durable::saga::Builder<u32>,
    world: &World,
    name: &'static str,
    time: Duration,
) {
    let undo: &'static str = Box::leak(format!("undo {name}").into_boxed_str());
    saga.step(name)
        .action((), world.service(name, &[Answer(2)], time), |input: &u32, ()| *input)
        .undo((), world.service(undo, &[Answer(0)], Duration::ZERO), |_, (), output| output)
        .add();
}

#[tokio::test(start_paused = true)]
async fn cancel_unwinds_when_what_runs_has_ended() {
    let world = World::new();
    let mut saga = sequence(&world, &[("a", &[Answer(1)])]);
    slow_step(&mut saga, &world, "b", ms(500));
    saga.step("c")
        .action((), world.service("c", &[Answer(2)], Duration::ZERO), |input: &u32, ()| *input)
        .add();
    let sagas = executor(saga);
    let execution = sagas.start(7).await.unwrap();
    tokio::time::advance(ms(100)).await;
    assert!(sagas.cancel(execution.id()).await.unwrap());
    let id = execution.id();
    assert_ended(&execution.await.unwrap(), Status::Compensated, Some("cancelled"));
    assert_eq!(world.seen(), ["a", "b", "undo b", "undo a"]);
    assert_eq!(world.times()[2].0, 500, "b ended first");
    assert!(!sagas.cancel(id).await.unwrap(), "the saga has ended");
}

#[tokio::test(start_paused = true)]
async fn past_the_pivot_a_cancelled_saga_goes_through() {
    let world = World::new();
    let mut saga = with_pivot(&world, &[Answer(2)], &[Refuse, Answer(3)]);
    saga = saga.max_concurrent(1);
    let sagas = executor(saga);
    let execution = sagas.start(7).await.unwrap();
    while world.seen().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert!(sagas.cancel(execution.id()).await.unwrap());
    assert_ended(&execution.await.unwrap(), Status::Completed, None);
}

#[tokio::test(start_paused = true)]
async fn at_its_deadline_a_saga_cuts_what_can_be_undone() {
    let world = World::new();
    let mut saga = sequence(&world, &[("a", &[Answer(1)])]);
    slow_step(&mut saga, &world, "b", ms(5000));
    let sagas = buttress_durable::saga::Executor::in_memory(
        saga.build().unwrap(),
        config().deadline(ms(700)),
    );
    let report = sagas.unwrap().run_to_end(7).await.unwrap();
    assert_ended(&report, Status::Compensated, Some("deadline passed"));
    assert_eq!(world.times()[2..], [(700, "undo b".to_owned()), (700, "undo a".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn at_its_deadline_a_pivot_under_way_is_waited_for() {
    for (plan, status) in
        [(&[Answer(2)][..], Status::Completed), (&[Refuse][..], Status::Compensated)]
    {
        let world = World::new();
        let mut saga = sequence(&world, &[("a", &[Answer(1)])]);
        saga.step("pivot")
            .kind(Kind::Pivot)
            .action((), world.service("pivot", plan, ms(900)), |input: &u32, ()| *input)
            .definite(refusals)
            .add();
        let built = saga.build().unwrap();
        let sagas = buttress_durable::saga::Executor::in_memory(built, config().deadline(ms(700)));
        assert_eq!(sagas.unwrap().run_to_end(7).await.unwrap().status(), status);
    }
}

/// Adds a last step, which refuses, and runs the saga to its end.
async fn ends_with_a_refusal(mut saga: buttress_durable::saga::Builder<u32>, world: &World) {
    refused_at(&mut saga, world, "b");
    assert_ended(&run(saga).await, Status::Compensated, Some("b: refused"));
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_a_step_bounds_its_action_and_not_its_undo() {
    let (world, mut saga) = (World::new(), Definition::builder("test", 1));
    saga.step("a")
        .timeout(ms(50))
        .action((), world.service("a", &[Answer(1)], ms(20)), |input: &u32, ()| *input)
        .undo((), world.service("undo a", &[Answer(0)], ms(100)), |_, (), output| output)
        .add();
    ends_with_a_refusal(saga, &world).await;
    assert_eq!(world.seen(), ["a", "b", "undo a"]);
}

#[tokio::test(start_paused = true)]
async fn an_undo_has_a_limit_of_its_own() {
    let (world, mut saga) = (World::new(), Definition::builder("test", 1));
    saga.step("a")
        .undo_timeout(ms(50))
        .action((), world.service("a", &[Answer(1)], ms(200)), |input: &u32, ()| *input)
        .undo((), world.service("undo a", &[Never, Answer(0)], ms(20)), |_, (), output| output)
        .add();
    ends_with_a_refusal(saga, &world).await;
    let undo = |at| (at, "undo a".to_owned());
    assert_eq!(world.times()[2..], [undo(200), undo(350)], "50 ms, and 100 ms of backoff");
}
