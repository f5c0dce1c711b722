//! The retries of single steps, and the hints of their failures.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::Clock;
use buttress::retry::{Backoff, Jitter};
use buttress_durable::saga::{
    Builder, Call, Config, Definition, Executor, InvalidDefinition, Kind, Status,
};
use tower::{BoxError, ServiceBuilder, service_fn};

use super::world::*;
use crate::support::ms;

const SECOND: Duration = Duration::from_secs(1);

/// Adds a step that never gets an answer from its service, and whose undo does not either.
fn broken<'b>(
    saga: &'b mut Builder<u32>,
    world: &World,
    name: &'static str,
    kind: Kind,
    rules: impl FnOnce(
        buttress_durable::saga::StepBuilder<'b, u32, buttress::InMemory, ()>,
    ) -> buttress_durable::saga::StepBuilder<'b, u32, buttress::InMemory, ()>,
) {
    let step = rules(saga.step(name).kind(kind));
    let step = step.action(
        (),
        world.service(
            name,
            if kind == Kind::Compensatable { &[Answer(1)] } else { &[Break] },
            ms(0),
        ),
        |input: &u32, ()| *input,
    );
    let undo = world.service("undo", &[Break], ms(0));
    let step = step.definite(refusals);
    match kind {
        Kind::Compensatable => step.undo((), undo, |input: &u32, (), _| *input).add(),
        _ => step.add(),
    };
}

fn times_of(world: &World, name: &str) -> Vec<u128> {
    let times = world.times();
    times.into_iter().filter(|(_, what)| what == name).map(|(at, _)| at).collect()
}

#[tokio::test(start_paused = true)]
async fn a_step_has_its_own_retries_and_the_others_those_of_the_executor() {
    for (kind, own) in [(Kind::Pivot, true), (Kind::Retryable, true), (Kind::Retryable, false)] {
        let world = World::new();
        let mut saga = Definition::builder("test", 1);
        broken(&mut saga, &world, "p", kind, |step| match own {
            true => step.run_again(4, Backoff::fixed(SECOND)),
            false => step,
        });
        assert_eq!(run(saga).await.status(), Status::Stuck);
        let expected = if own { vec![0, 1000, 2000, 3000] } else { vec![0, 100, 300] };
        assert_eq!(times_of(&world, "p"), expected, "{kind:?}");
    }
    for own in [true, false] {
        let world = World::new();
        let mut saga = Definition::builder("test", 1);
        broken(&mut saga, &world, "a", Kind::Compensatable, |step| match own {
            true => step.undo_retry(2, Backoff::fixed(SECOND)),
            false => step,
        });
        refused_at(&mut saga, &world, "b");
        assert_eq!(run(saga).await.status(), Status::Stuck);
        let expected = if own { vec![0, 1000] } else { vec![0, 100, 300] };
        assert_eq!(times_of(&world, "undo"), expected);
    }
}

/// The error of a service that asks to wait.
#[derive(Debug, thiserror::Error)]
#[error("busy")]
struct Busy(Duration);

fn wait_of(error: &(dyn Error + 'static)) -> Option<Duration> {
    error.downcast_ref::<Busy>().map(|busy| busy.0)
}

/// Runs a saga whose pivot fails once with a hint of `hint`. Returns when its calls came, in milliseconds.
async fn hinted(
    hint: Duration,
    read: impl Fn(&(dyn Error + 'static)) -> Option<Duration> + Send + Sync + 'static,
) -> Vec<u128> {
    let (world, calls) = (World::new(), Arc::new(Mutex::new(0)));
    let noted = world.clone();
    let service = service_fn(move |_: Call<u32>| {
        noted.note("p");
        let first = std::mem::replace(&mut *calls.lock().unwrap(), 1) == 0;
        async move { if first { Err(Busy(hint)) } else { Ok(1_u32) } }
    });
    let mut saga = Definition::builder("test", 1);
    saga.step("p")
        .kind(Kind::Pivot)
        .run_again(2, Backoff::fixed(SECOND))
        .hint(read)
        .action((), service, |input: &u32, ()| *input)
        .add();
    assert_eq!(run(saga).await.status(), Status::Completed);
    times_of(&world, "p")
}

#[tokio::test(start_paused = true)]
async fn the_hint_of_a_failure_lengthens_the_wait_up_to_five_minutes() {
    assert_eq!(hinted(3 * SECOND, wait_of).await, [0, 3000]);
    assert_eq!(hinted(SECOND / 2, wait_of).await, [0, 1000], "the backoff is longer");
    assert_eq!(hinted(Duration::MAX, wait_of).await, [0, 300_000]);
    assert_eq!(hinted(3 * SECOND, |_| None).await, [0, 1000]);
    assert_eq!(hinted(3 * SECOND, |_| panic!("a hint")).await, [0, 1000]);
}

#[tokio::test(start_paused = true)]
async fn the_hint_of_a_failed_undo_counts_too() {
    let world = World::new();
    let noted = world.clone();
    let undo = service_fn(move |_: Call<u32>| {
        noted.note("undo");
        async { Err::<u32, _>(Busy(3 * SECOND)) }
    });
    let mut saga = Definition::builder("test", 1);
    saga.step("a")
        .undo_retry(2, Backoff::none())
        .hint(wait_of)
        .action((), world.service("a", &[Answer(1)], ms(0)), |input: &u32, ()| *input)
        .undo((), undo, |input: &u32, (), _| *input)
        .add();
    refused_at(&mut saga, &world, "b");
    assert_eq!(run(saga).await.status(), Status::Stuck);
    assert_eq!(times_of(&world, "undo"), [0, 3000]);
}

#[tokio::test(start_paused = true)]
async fn the_refusal_of_a_layer_has_a_hint_by_itself() {
    let world = World::new();
    let rate = buttress::rate_limit::Config::new().max_tokens(1).refill(1, SECOND);
    let layers = ServiceBuilder::new()
        .layer(buttress::rate_limit::RateLimitLayer::new(rate).unwrap())
        .map_err(|error: StepError| -> BoxError { error.into() });
    let mut saga = Definition::builder("test", 1);
    saga.step("p")
        .kind(Kind::Pivot)
        .action((), world.service("q", &[Answer(1)], ms(0)), |input: &u32, ()| *input)
        .add();
    saga.step("r")
        .kind(Kind::Retryable)
        .run_again(3, Backoff::none())
        .action(layers, world.service("r", &[Break, Answer(1)], ms(0)), |input: &u32, ()| *input)
        .add();
    assert_eq!(run(saga).await.status(), Status::Completed);
    assert_eq!(times_of(&world, "r"), [0, 1000], "the limiter refused the attempt between them");
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_other_retries_resumes_the_saga() {
    let store = buttress_durable::saga::MemoryStore::new(Clock::default());
    let world = World::new();
    let on = |attempts| {
        let mut saga = Definition::builder("test", 1);
        broken(&mut saga, &world, "p", Kind::Pivot, |step| {
            step.run_again(attempts, Backoff::fixed(SECOND))
        });
        let config = Config::new().lease(10 * SECOND);
        Executor::new(saga.build().unwrap(), store.clone(), config).unwrap()
    };
    let first = on(100);
    drop(first.start(7).await.unwrap());
    Clock::default().sleep(SECOND / 2).await;
    first.shut_down().await.unwrap();
    let second = on(2);
    assert_eq!(second.recover().await.unwrap().resumed.len(), 1);
    Clock::default().sleep(5 * SECOND).await;
    assert_eq!((second.stats().active, second.stats().stuck), (0, 1));
    assert_eq!(times_of(&world, "p"), [0, 500, 1500]);
}

#[test]
fn retries_that_make_no_sense_are_refused_and_name_the_step() {
    let none = || Backoff::none();
    let service = || service_fn(async |_: Call<u32>| Ok::<u32, BoxError>(1));
    let build = |attempts, kind, backoff: Backoff, undo: bool, has_undo: bool| {
        let mut saga = Definition::<u32>::builder("order", 1);
        let step = saga.step("a").kind(kind);
        let step = match undo {
            true => step.undo_retry(attempts, backoff),
            false => step.run_again(attempts, backoff),
        };
        let step = step.action((), service(), |input: &u32, ()| *input);
        let step = match has_undo {
            true => step.undo((), service(), |input: &u32, (), _| *input),
            false => step,
        };
        step.add();
        saga.build().map(drop)
    };
    let (undoable, pivot) = (Kind::Compensatable, Kind::Pivot);
    assert_eq!(build(1, pivot, none(), false, false), Ok(()));
    assert_eq!(build(1, undoable, none(), true, true), Ok(()));
    let useless = |setting, why| {
        Err(InvalidDefinition::UselessSetting {
            saga: "order".into(),
            step: "a".into(),
            setting,
            why,
        })
    };
    assert_eq!(build(1, undoable, none(), false, true), useless("run_again", "is compensatable"));
    assert_eq!(build(1, undoable, none(), true, false), useless("undo_retry", "has no undo"));
    assert_eq!(build(1, pivot, none(), true, false), useless("undo_retry", "has no undo"));
    assert_eq!(
        build(1, pivot, none(), true, false).unwrap_err().to_string(),
        "saga \"order\": step \"a\": undo_retry has no effect, because the step has no undo; remove it"
    );
    let wrong = Backoff::exponential(SECOND).jitter(Jitter::Fraction(2.0));
    for (attempts, backoff, part) in [(0, none(), "attempts"), (1, wrong, "jitter")] {
        let error = build(attempts, pivot, backoff, false, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "saga \"order\": step \"a\": the values of run_again are out of their bounds"
        );
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains(part), "{cause}");
    }
}
