//! Rejected definitions, and descriptions of definitions.

use std::time::Duration;

use buttress_durable::saga::{Config, Definition, Executor, InvalidDefinition, Kind};

use super::world::*;

fn add(
    saga: &mut buttress_durable::saga::Builder<u32>,
    name: &'static str,
) -> buttress_durable::saga::StepHandle<u32> {
    let service = World::new().service(name, &[Answer(1)], std::time::Duration::ZERO);
    saga.step(name).action((), service, |input: &u32, ()| *input).add()
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused_when_it_is_built() {
    let empty = Definition::<u32>::builder("test", 1).build().unwrap_err();
    assert_eq!(empty.to_string(), "saga \"test\": no steps, at least 1 is required");

    let mut saga = Definition::<u32>::builder("test", 1);
    add(&mut saga, "a");
    add(&mut saga, "a");
    let twice = saga.build().unwrap_err();
    assert_eq!(
        twice.to_string(),
        "saga \"test\": two steps have the name \"a\"; give each step its own name"
    );

    // Regression: U+0000 changed on its way through a database.
    for name in ["", "a\0b"] {
        let mut saga = Definition::<u32>::builder("test", 1);
        add(&mut saga, name);
        let unusable = saga.build().unwrap_err();
        assert_eq!(
            unusable.to_string(),
            format!("saga \"test\": the name {name:?} is empty or holds a control character")
        );
    }
    let mut saga = Definition::<u32>::builder("", 1);
    add(&mut saga, "a");
    assert!(matches!(saga.build(), Err(InvalidDefinition::UnusableName { .. })));

    let mut saga = Definition::<u32>::builder("test", 1);
    let (a, b) = (add(&mut saga, "a"), add(&mut saga, "b"));
    saga.order(b, a);
    assert!(matches!(saga.build(), Err(InvalidDefinition::Cycle { .. })));

    let mut other = Definition::<u32>::builder("other", 1);
    let foreign = add(&mut other, "a");
    let mut saga = Definition::<u32>::builder("test", 1);
    let service = World::new().service("b", &[Answer(1)], std::time::Duration::ZERO);
    saga.step("b").needs(foreign).action((), service, |input: &u32, _| *input).add();
    let unknown = saga.build().unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "saga \"test\": step \"b\" depends on a step of another definition"
    );

    let mut saga = Definition::<u32>::builder("test", 1);
    add(&mut saga, "a");
    assert!(matches!(saga.max_concurrent(0).build(), Err(InvalidDefinition::NoConcurrency { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_configuration_out_of_bounds_is_refused() {
    let world = World::new();
    let built = sequence(&world, &[("a", &[Answer(1)])]).build().unwrap();
    let wrong = [
        config().lease(std::time::Duration::ZERO),
        config().deadline(std::time::Duration::ZERO),
        config().undo_retry(0, buttress::retry::Backoff::none()),
        config().run_again(0, buttress::retry::Backoff::none()),
        config().patience(std::time::Duration::MAX),
    ];
    let fields = ["lease", "deadline", "undo-attempts", "again-attempts", "patience"];
    for (config, field) in wrong.into_iter().zip(fields) {
        let error = Executor::in_memory(built.clone(), config).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
    assert!(Executor::in_memory(built, Config::new()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_definition_draws_itself() {
    let world = World::new();
    let mut saga = sequence(&world, &[("reserve", &[Answer(1)])]);
    for (name, kind) in [("charge", Kind::Pivot), ("ship", Kind::Retryable)] {
        let service = world.service(name, &[Answer(1)], std::time::Duration::ZERO);
        saga.step(name).kind(kind).action((), service, |input: &u32, ()| *input).add();
    }
    let drawing = saga.build().unwrap().mermaid();
    let expected = "flowchart TD\n    s0[\"reserve\"]\n    s1{\"charge\"}\n    s2([\"ship\"])\n    \
                    s0 --> s1\n    s1 --> s2\n    s0 -.-> u0[\"undo reserve\"]\n";
    assert_eq!(drawing, expected);
}

#[test]
fn a_limit_of_zero_is_refused_and_names_the_step() {
    for undo in [false, true] {
        let mut saga = Definition::<u32>::builder("order", 1);
        for (name, limit) in [("a", Duration::from_nanos(1)), ("b", Duration::ZERO)] {
            let step = saga.step(name);
            let step = if undo { step.undo_timeout(limit) } else { step.timeout(limit) };
            let service = tower::service_fn(async |_: buttress_durable::saga::Call<u32>| {
                Ok::<u32, tower::BoxError>(1)
            });
            step.action((), service, |input: &u32, ()| *input).add();
        }
        let setting = if undo { "undo_timeout" } else { "timeout" };
        let error = saga.build().unwrap_err();
        assert_eq!(
            error,
            InvalidDefinition::ZeroTimeout { saga: "order".into(), step: "b".into(), setting }
        );
        assert_eq!(
            error.to_string(),
            format!(
                "saga \"order\": step \"b\": {setting} is 0 s, more than 0 s is wanted; leave it out for no \
                 limit"
            )
        );
    }
}
