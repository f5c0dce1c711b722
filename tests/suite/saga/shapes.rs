//! Sequences, groups and graphs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buttress_durable::saga::{Call, Definition, Status};
use tower::{BoxError, service_fn};

use super::world::*;
use crate::support::ms;

#[tokio::test(start_paused = true)]
async fn outputs_go_to_the_steps_that_need_them() {
    let mut saga = Definition::<u32>::builder("sum", 1);
    let double =
        service_fn(async |call: Call<u32>| Ok::<_, BoxError>(u64::from(call.into_request()) * 2));
    let text =
        service_fn(async |call: Call<u64>| Ok::<_, BoxError>(call.into_request().to_string()));
    let join = service_fn(async |call: Call<String>| Ok::<_, BoxError>(call.into_request()));
    let first = saga.step("first").action((), double, |input: &u32, ()| *input).add();
    let second = saga
        .step("second")
        .needs(first)
        .action((), text, |_: &u32, first: Arc<u64>| *first + 1)
        .add();
    let third = saga
        .step("third")
        .needs((first, second))
        .action((), join, |input: &u32, (first, second): (Arc<u64>, Arc<String>)| {
            format!("{input} {first} {second}")
        })
        .add();
    let report = executor(saga).run_to_end(20).await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    assert_eq!(*report.output(first).unwrap(), 40);
    assert_eq!(report.output(third).unwrap().as_str(), "20 40 41");
}

#[tokio::test(start_paused = true)]
async fn a_group_runs_beside_each_other_and_is_joined() {
    let world = World::new();
    let mut saga = sequence(&world, &[("a", &[Answer(1)])]);
    let add = |saga: &mut buttress_durable::saga::Builder<u32>, name: &'static str, takes| {
        let undo: &'static str = Box::leak(format!("undo {name}").into_boxed_str());
        saga.step(name)
            .action((), world.service(name, &[Answer(1)], takes), |input: &u32, ()| *input)
            .undo((), world.service(undo, &[Answer(0)], takes), |_, (), output| output)
            .add();
    };
    saga.parallel(|saga| {
        add(saga, "b", ms(300));
        add(saga, "c", ms(100));
        add(saga, "d", ms(200));
    });
    add(&mut saga, "e", ms(0));
    refused_at(&mut saga, &world, "f");
    assert_eq!(run(saga).await.status(), Status::Compensated);
    let seen = world.seen();
    assert_eq!(
        seen,
        ["a", "b", "c", "d", "e", "f", "undo e", "undo b", "undo c", "undo d", "undo a"]
    );
    let times: Vec<u128> = world.times().into_iter().map(|(at, _)| at).collect();
    assert_eq!(times[..6], [0, 0, 0, 0, 300, 300]);
    assert_eq!(
        times[7..],
        [300, 300, 300, 600],
        "the group is undone concurrently, then the step before it"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_steps_at_once_than_allowed() {
    let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut saga = Definition::<u32>::builder("wide", 1).max_concurrent(3);
    let (counted, most) = (now.clone(), peak.clone());
    let service = service_fn(move |_: Call<u32>| {
        let (counted, most) = (counted.clone(), most.clone());
        async move {
            most.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            buttress::Clock::default().sleep(ms(10)).await;
            counted.fetch_sub(1, Ordering::SeqCst);
            Ok::<u32, BoxError>(0)
        }
    });
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    saga.parallel(|saga| {
        for name in names {
            saga.step(name).action((), service.clone(), |input: &u32, ()| *input).add();
        }
    });
    assert_eq!(run(saga).await.status(), Status::Completed);
    assert_eq!((now.load(Ordering::SeqCst), peak.load(Ordering::SeqCst)), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn edges_make_a_graph() {
    // a, then b and c; d after b alone, e after c and d.
    let world = World::new();
    let mut saga = Definition::<u32>::builder("graph", 1);
    let takes = |name: &'static str, ms_: u64| world.service::<u32>(name, &[Answer(1)], ms(ms_));
    let request = |input: &u32, ()| *input;
    let a = saga.step("a").action((), takes("a", 10), request).add();
    let b = saga.step("b").after(a).action((), takes("b", 10), request).add();
    let c = saga.step("c").after(a).action((), takes("c", 100), request).add();
    let d = saga.step("d").after(b).action((), takes("d", 10), request).add();
    let e = saga.step("e").after(d).action((), takes("e", 10), request).add();
    saga.order(c, e);
    saga.step("free").parallel().action((), takes("free", 0), request).add();
    assert_eq!(run(saga).await.status(), Status::Completed);
    let mut times = world.times();
    times.sort();
    let times: Vec<(u128, &str)> = times.iter().map(|(at, what)| (*at, what.as_str())).collect();
    assert_eq!(times, [(0, "a"), (0, "free"), (10, "b"), (10, "c"), (20, "d"), (110, "e")]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_a_group_waits_for_the_others_and_undoes_them() {
    let world = World::new();
    let mut saga = Definition::<u32>::builder("group", 1);
    saga.parallel(|saga| {
        saga.step("slow")
            .action((), world.service("slow", &[Answer(1)], ms(500)), |input: &u32, ()| *input)
            .undo((), world.service("undo slow", &[Answer(0)], Duration::ZERO), |_, (), output| {
                output
            })
            .add();
        saga.step("bad")
            .action((), world.service("bad", &[Refuse], Duration::ZERO), |input: &u32, ()| *input)
            .definite(refusals)
            .add();
    });
    let report = run(saga).await;
    assert_ended(&report, Status::Compensated, Some("bad: refused"));
    assert_eq!(world.times()[2], (500, "undo slow".to_owned()));
}
