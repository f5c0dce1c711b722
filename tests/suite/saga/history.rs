//! The history of a saga's steps, and searches.

use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{Clock, StoreErrorKind};
use buttress_durable::saga::{Definition, Executor, Kind, SagaId, Search, Status, StepHistory};

use super::stores::flaky;
use super::world::*;
use crate::support::ms;

/// Stock, and a charge that needs several attempts.
fn order(world: &World, charge: &'static [Do]) -> buttress_durable::saga::Builder<u32> {
    let mut saga = Definition::builder("test", 1);
    saga.step("stock")
        .undo_retry(3, Backoff::fixed(ms(10)))
        .action((), world.service("stock", &[Answer(1)], ms(50)), |input: &u32, ()| *input)
        .undo(
            (),
            world.service("undo stock", &[Break, Break, Answer(0)], ms(5)),
            |input: &u32, (), _| *input,
        )
        .add();
    saga.step("charge")
        .kind(Kind::Pivot)
        .run_again(4, Backoff::fixed(ms(100)))
        .action((), world.service("charge", charge, ms(20)), |input: &u32, ()| *input)
        .definite(refusals)
        .add();
    saga
}

/// Times since `start` in milliseconds: the start and the end of a step.
fn times(history: &StepHistory, start: Duration) -> (Option<u128>, Option<u128>) {
    let since = |at: Duration| (at - start).as_millis();
    (history.started.map(since), history.ended.map(since))
}

#[tokio::test(start_paused = true)]
async fn a_report_and_the_state_have_times_attempts_and_errors_of_each_step() {
    let (world, clock) = (World::new(), Clock::default());
    let start = clock.unix();
    let sagas = executor(order(&world, &[Break, Break, Answer(1)]));
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    let [stock, charge] = report.history() else { panic!("{report:?}") };
    assert_eq!((times(stock, start), stock.attempts), ((Some(0), Some(50)), 1));
    assert_eq!((stock.undo_attempts, stock.error.as_deref()), (0, None));
    assert_eq!((times(charge, start), charge.attempts), ((Some(50), Some(310)), 3));
    assert_eq!(charge.error.as_deref(), Some("broken"), "of the attempt before the last one");
    let tree = sagas.state(report.id()).await.unwrap().unwrap();
    assert_eq!(tree.created_at.map(|at| at - start), Some(ms(0)));
    let known: Vec<StepHistory> = tree.steps.iter().map(|step| step.history.clone()).collect();
    assert_eq!(known, report.history());
    assert!(tree.to_string().contains("charge: done, after stock, 3 attempts"), "{tree}");
    assert!(tree.to_string().contains("stock: done\n"), "{tree}");
}

#[tokio::test(start_paused = true)]
async fn undos_are_counted_apart() {
    let (world, clock) = (World::new(), Clock::default());
    let start = clock.unix();
    let sagas = executor(order(&world, &[Break, Refuse]));
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Compensated);
    let [stock, charge] = report.history() else { panic!("{report:?}") };
    assert_eq!((charge.attempts, charge.error.as_deref()), (2, Some("refused")));
    assert_eq!((stock.attempts, stock.undo_attempts), (1, 3));
    assert_eq!(stock.error.as_deref(), Some("broken"));
    assert_eq!(times(stock, start), (Some(0), Some(225)));
}

#[tokio::test(start_paused = true)]
async fn the_history_outlives_its_worker_and_a_lost_answer() {
    let (world, clock) = (World::new(), Clock::default());
    let store = flaky();
    let on = |world: &World, charge| {
        let saga = order(world, charge).build().unwrap();
        Executor::new(saga, store.clone(), config()).unwrap()
    };
    let start = clock.unix();
    let first = on(&world, &[Break, Break, Never]);
    let id = first.start(7).await.unwrap().id();
    clock.sleep(ms(100)).await;
    first.shut_down().await.unwrap();
    let second = on(&World::new(), &[Break, Answer(1)]);
    store.hook().lose_answers(3);
    assert_eq!(second.recover().await.unwrap().resumed, [id]);
    let report = second.start_or_attach(id, 7).await.unwrap().await.unwrap();
    assert_eq!(report.status(), Status::Completed);
    let charge = &report.history()[1];
    assert_eq!(charge.started.map(|at| at - start), Some(ms(50)), "under the first worker");
    assert_eq!(charge.attempts, 3, "one start, and two attempts of the second worker");
    assert_eq!(charge.error.as_deref(), Some("broken"));
}

#[tokio::test(start_paused = true)]
async fn sagas_are_found_by_status_age_step_and_reason() {
    let (world, clock) = (World::new(), Clock::default());
    let store = flaky();
    let sagas = |charge| {
        let saga = order(&world, charge).build().unwrap();
        Executor::new(saga, store.clone(), config()).unwrap()
    };
    let ids = |numbers: &[u128]| numbers.iter().map(|id| SagaId::new(*id)).collect::<Vec<_>>();
    for (id, charge) in [(1, &[Break][..]), (2, &[Answer(1)][..]), (3, &[Panic][..])] {
        let _ended = sagas(charge).start_as(SagaId::new(id), 7).await.unwrap().await.unwrap();
        clock.sleep(Duration::from_secs(60)).await;
    }
    let orders = sagas(&[Answer(1)]);
    let mut other = Definition::builder("other", 1);
    refused_at(&mut other, &world, "charge");
    let other = Executor::new(other.build().unwrap(), store.clone(), config()).unwrap();
    let _ended = other.run_to_end(7).await.unwrap();
    let find = async |search: Search| {
        let found = orders.search(search).await.unwrap();
        (found.sagas.iter().map(|tree| tree.id).collect::<Vec<_>>(), found.next)
    };
    assert_eq!(find(Search::new()).await, (ids(&[1, 2, 3]), None), "only of the definition");
    assert_eq!(find(Search::new().status(Status::Stuck)).await.0, ids(&[1, 3]));
    let old = Search::new().older_than(Duration::from_secs(120));
    assert_eq!(find(old).await.0, ids(&[1, 2]));
    assert_eq!(find(Search::new().at_step("charge")).await.0, ids(&[1, 3]));
    assert_eq!(find(Search::new().at_step("stock")).await.0, []);
    assert_eq!(find(Search::new().reason("panicked")).await.0, ids(&[3]));
    let both = Search::new().reason("charge: ").status(Status::Stuck).older_than(ms(1));
    assert_eq!(find(both).await.0, ids(&[1, 3]));
    // Page by page.
    let (first, next) = find(Search::new().limit(1)).await;
    assert_eq!((first, next), (ids(&[1]), Some(SagaId::new(1))));
    let (second, next) = find(Search::new().limit(1).after(SagaId::new(1))).await;
    assert_eq!((second, next), (ids(&[2]), Some(SagaId::new(2))));
    assert_eq!(find(Search::new().scan(2)).await, (ids(&[1, 2]), Some(SagaId::new(2))));
    store.hook().away(StoreErrorKind::Transient);
    assert!(orders.search(Search::new()).await.unwrap_err().is_transient());
}
