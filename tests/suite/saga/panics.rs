//! User code that panics in an attempt: the attempt is in doubt, and the saga continues.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use buttress_durable::saga::{
    Call, Config, Definition, Executor, Kind, Report, Status, StepStatus,
};
use tower::{BoxError, Service, service_fn};

use super::world::*;
use crate::support::bombs::{ArmedClones, Bomb, armed};

/// The place where an error panics.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Where {
    Display,
    Drop,
    Both,
    /// The drop of the panic payload panics.
    Payload,
}

#[derive(Debug)]
struct Nasty(Where);

impl fmt::Display for Nasty {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Where::Display | Where::Both => panic!("a display"),
            Where::Payload => std::panic::panic_any(Self(Where::Drop)),
            Where::Drop => Ok(()),
        }
    }
}

impl std::error::Error for Nasty {}

impl Drop for Nasty {
    fn drop(&mut self) {
        assert!(!matches!(self.0, Where::Drop | Where::Both), "a drop");
    }
}

async fn run_with(kind: Kind, place: Where, definite: bool, config: Config) -> (Report, u32) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let service = service_fn(move |_: Call<u32>| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if first { Err(Nasty(place)) } else { Ok(1) } }
    });
    let undone = World::new();
    let undo = undone.service("undo a", &[Answer(0)], std::time::Duration::ZERO);
    let mut saga = Definition::<u32>::builder("test", 1);
    let step = saga.step("a").kind(kind).action((), service, |input: &u32, ()| *input);
    let step = step.definite(move |_| definite);
    if kind == Kind::Compensatable {
        step.undo((), undo, |input: &u32, (), _| *input).add();
    } else {
        step.add();
    }
    let sagas = Executor::in_memory(saga.build().unwrap(), config).unwrap();
    let report = sagas.run_to_end(7).await.unwrap();
    sagas.shut_down().await.unwrap();
    assert_eq!(undone.seen().len(), usize::from(kind == Kind::Compensatable), "{place:?}");
    (report, calls.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn an_error_whose_display_panics_is_an_action_in_doubt() {
    for place in [Where::Display, Where::Both, Where::Payload] {
        for definite in [false, true] {
            let (report, _) = run_with(Kind::Compensatable, place, definite, config()).await;
            assert_eq!(report.status(), Status::Compensated, "{place:?}");
            assert!(report.reason().unwrap().starts_with("a: panicked"), "{report:?}");
            assert_eq!(report.steps()[0].1, StepStatus::Undone, "it was in doubt, and undone");
            // It is in doubt, so a pivot is retried.
            let (report, calls) = run_with(Kind::Pivot, place, definite, config()).await;
            assert_eq!((report.status(), calls), (Status::Completed, 2), "{place:?}");
        }
    }
}

/// The panic once took the place of the error.
#[tokio::test(start_paused = true)]
async fn an_error_whose_drop_panics_is_an_error() {
    let (report, _) = run_with(Kind::Compensatable, Where::Drop, false, config()).await;
    assert_eq!((report.status(), report.reason()), (Status::Compensated, Some("a: ")));
    assert_eq!(report.steps()[0].1, StepStatus::Undone, "it was in doubt, and undone");
    let (report, calls) = run_with(Kind::Pivot, Where::Drop, true, config()).await;
    assert_eq!((report.status(), calls), (Status::Compensated, 1), "it had no effect");
}

async fn run_step<S>(service: S) -> (Status, Vec<String>)
where
    S: Service<Call<u32>, Response = u32, Error = BoxError, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let world = World::new();
    let undo = world.service("undo a", &[Answer(0)], std::time::Duration::ZERO);
    let mut saga = Definition::<u32>::builder("test", 1);
    saga.step("a")
        .timeout(std::time::Duration::from_secs(1))
        .action((), service, |input: &u32, ()| *input)
        .undo((), undo, |input: &u32, (), _| *input)
        .add();
    let sagas = Executor::in_memory(saga.build().unwrap(), config()).unwrap();
    let report = sagas.run_to_end(7).await.unwrap();
    sagas.shut_down().await.unwrap();
    (report.status(), world.seen())
}

/// The panic once replaced the answer: an action that was done was undone.
#[tokio::test(start_paused = true)]
async fn a_drop_that_panics_after_the_answer_does_not_change_it() {
    let done = (Status::Completed, Vec::new());
    let answers = service_fn(|_: Call<u32>| armed(async { Ok::<u32, BoxError>(1) }));
    assert_eq!(run_step(answers).await, done, "the future");
    let answers = service_fn(async |_: Call<u32>| Ok::<u32, BoxError>(1));
    assert_eq!(run_step(ArmedClones::of(answers)).await, done, "the service");
    let late = service_fn(|_: Call<u32>| armed(std::future::pending::<Result<u32, BoxError>>()));
    let undone = (Status::Compensated, vec!["undo a".to_owned()]);
    assert_eq!(run_step(late).await, undone, "the time limit drops it");
}

#[tokio::test(start_paused = true)]
async fn an_action_that_panics_when_it_ends_is_in_doubt() {
    // At its end, and when the time limit of the step interrupts it.
    for ends in [true, false] {
        let service = service_fn(move |_: Call<u32>| async move {
            let _bomb = Bomb;
            if !ends {
                std::future::pending::<()>().await;
            }
            Ok::<u32, BoxError>(1)
        });
        let (status, seen) = run_step(service).await;
        assert_eq!(status, Status::Compensated, "ends: {ends}");
        assert_eq!(seen, ["undo a"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_output_that_panics_when_it_is_dropped_hides_no_report() {
    let service = service_fn(async |_: Call<u32>| Ok::<Bomb, BoxError>(Bomb));
    let mut saga = Definition::<u32>::builder("test", 1);
    let step = saga.step("a").action((), service, |input: &u32, ()| *input).add();
    let sagas = Executor::in_memory(saga.build().unwrap(), config()).unwrap();
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    // The test must not drop it either.
    std::mem::forget((report.output(step), report));
    std::mem::forget(sagas);
}
