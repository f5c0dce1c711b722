//! Reports: the state of steps without an undo, and the reason why a saga was undone.

use std::time::Duration;

use buttress::Clock;
use buttress_durable::saga::{
    Definition, Executor, MemoryStore, OnCrash, SagaId, Status, StepStatus, Store,
};

use super::world::*;
use crate::support::ms;

fn statuses(report: &buttress_durable::saga::Report) -> Vec<StepStatus> {
    report.steps().iter().map(|(_, status)| *status).collect()
}

/// `a` with an undo, `b` without, `c` with an undo, then `d`, which fails.
fn middle(world: &World, b: &'static [Do], together: bool) -> buttress_durable::saga::Builder<u32> {
    let mut saga = Definition::<u32>::builder("test", 1);
    let request = |input: &u32, ()| *input;
    let undo = |input: &u32, (), _| *input;
    saga.step("a")
        .action((), world.service("a", &[Answer(1)], Duration::ZERO), request)
        .undo((), world.service("undo a", &[Answer(0)], Duration::ZERO), undo)
        .add();
    if together {
        saga.parallel(|saga| {
            saga.step("b").action((), world.service("b", b, ms(5)), request).add();
            saga.step("d")
                .action((), world.service("d", &[Refuse], ms(10)), request)
                .definite(refusals)
                .add();
        });
        return saga;
    }
    saga.step("b").action((), world.service("b", b, Duration::ZERO), request).add();
    saga.step("c")
        .action((), world.service("c", &[Answer(1)], Duration::ZERO), request)
        .undo((), world.service("undo c", &[Answer(0)], ms(5)), undo)
        .add();
    refused_at(&mut saga, world, "d");
    saga
}

#[tokio::test(start_paused = true)]
async fn a_step_without_an_undo_stays_done() {
    let world = World::new();
    let sagas = executor(middle(&world, &[Answer(1)], false));
    let report = sagas.run_to_end(7).await.unwrap();
    assert_ended(&report, Status::Compensated, Some("d: refused"));
    let (undone, done) = (StepStatus::Undone, StepStatus::Done);
    assert_eq!(statuses(&report), [undone, done, undone, StepStatus::Failed]);
    assert_eq!(world.seen(), ["a", "b", "c", "d", "undo c", "undo a"], "a waits for c");
    let stats = sagas.stats();
    assert_eq!((stats.compensations_executed, stats.compensations_failed), (2, 0));
    let tree = sagas.state(report.id()).await.unwrap().unwrap();
    assert_eq!(tree.steps[1].status, done);
}

#[tokio::test(start_paused = true)]
async fn a_step_without_an_undo_stays_in_doubt() {
    for together in [true, false] {
        let world = World::new();
        let sagas = executor(middle(&world, &[Break], together));
        let report = sagas.run_to_end(7).await.unwrap();
        assert_eq!(report.status(), Status::Compensated);
        assert_eq!(statuses(&report)[..2], [StepStatus::Undone, StepStatus::InDoubt]);
        assert_eq!(sagas.stats().compensations_executed, 1, "the compensation of a");
        let tree = sagas.state(report.id()).await.unwrap().unwrap();
        assert_eq!(tree.steps[1].note.as_deref(), Some("broken"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_saga_without_any_undo_counts_no_compensation() {
    let world = World::new();
    let mut saga = Definition::<u32>::builder("test", 1);
    for (name, plan) in [("a", &[Answer(1)][..]), ("b", &[Break])] {
        let service = world.service(name, plan, Duration::ZERO);
        saga.step(name).action((), service, |input: &u32, ()| *input).add();
    }
    let sagas = executor(saga);
    let report = sagas.run_to_end(7).await.unwrap();
    assert_ended(&report, Status::Compensated, Some("b: broken"));
    assert_eq!(statuses(&report), [StepStatus::Done, StepStatus::InDoubt]);
    assert_eq!(sagas.stats().compensations_executed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_step_cut_short_by_the_deadline_says_deadline() {
    let world = World::new();
    let saga = sequence(&world, &[("a", &[Answer(1)]), ("b", &[Never])]);
    let config = config().deadline(ms(300));
    let sagas = Executor::in_memory(saga.build().unwrap(), config).unwrap();
    let report = sagas.run_to_end(7).await.unwrap();
    assert_ended(&report, Status::Compensated, Some("deadline passed"));
    let tree = sagas.state(report.id()).await.unwrap().unwrap();
    assert_eq!(tree.reason.as_deref(), Some("deadline passed"));
    assert_eq!(tree.steps[1].note, None, "the note of its undo");
    assert_eq!(world.times().last().unwrap().0, 300);
}

#[tokio::test(start_paused = true)]
async fn a_step_cut_short_by_its_own_limit_says_so_although_there_is_a_deadline() {
    let world = World::new();
    let saga = sequence(&world, &[("a", &[Never])]);
    let config = config().deadline(ms(1500));
    let sagas = Executor::in_memory(saga.build().unwrap(), config).unwrap();
    let report = sagas.run_to_end(7).await.unwrap();
    assert_ended(&report, Status::Compensated, Some("a: no answer in time"));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_by_another_process_says_cancelled() {
    let world = World::new();
    let store = MemoryStore::new(Clock::default());
    let mut saga = Definition::<u32>::builder("test", 1);
    for name in ["a", "b"] {
        saga.step(name)
            .action((), world.service(name, &[Answer(1)], ms(100)), |input: &u32, ()| *input)
            .add();
    }
    let sagas = Executor::new(saga.build().unwrap(), store.clone(), config()).unwrap();
    let execution = sagas.start(7).await.unwrap();
    Clock::default().sleep(ms(50)).await;
    // As another process does: only the store has the request.
    assert!(store.request_cancel(execution.id()).await.unwrap());
    let report = execution.await.unwrap();
    assert_ended(&report, Status::Compensated, Some("cancelled"));
    let tree = sagas.state(report.id()).await.unwrap().unwrap();
    assert_eq!(tree.reason.as_deref(), Some("cancelled"));
    assert_eq!(tree.steps[1].note.as_deref(), Some("cancelled before the service was called"));
    assert_eq!(world.seen(), ["a"]);
}

/// The process ends after the step's end is in the log and before the saga unwinds.
#[tokio::test(start_paused = true)]
async fn the_next_worker_knows_why() {
    use buttress_durable::saga::{Append, Beginning, Entry, EntryKind, NewSaga, WorkerId};
    let why = [
        (EntryKind::ActionInDoubt, "deadline passed", "deadline passed"),
        (EntryKind::ActionFailed, "cancelled before the service was called", "cancelled"),
        (EntryKind::ActionFailed, "card declined", "a: card declined"),
    ];
    for (kind, note, reason) in why {
        let world = World::new();
        let store = MemoryStore::of_bytes(Clock::default());
        let (id, worker) = (SagaId::new(5), WorkerId::new(9));
        let beginning = Beginning::new(b"7".to_vec());
        let mut saga = NewSaga::new(id, ("test", 1), "json", worker, beginning);
        saga.entries.push(Entry::ActionStarted { step: 0 });
        store.create(saga).await.unwrap();
        let entry = Entry::from_parts(kind, 0, None, Some(note.to_owned())).unwrap();
        let append = Append::new(id, 1, 1, vec![entry], Status::Running);
        store.append(append).await.unwrap();
        let mut saga = Definition::<u32>::builder("test", 1).codec(buttress::Json);
        saga.step("a")
            .on_crash(OnCrash::Undo)
            .action((), world.service("a", &[Answer(1)], Duration::ZERO), |input: &u32, ()| *input)
            .add();
        let sagas = Executor::new(saga.build().unwrap(), store, config()).unwrap();
        assert_eq!(sagas.recover().await.unwrap().resumed, [id]);
        while sagas.stats().active > 0 {
            tokio::task::yield_now().await;
        }
        let tree = sagas.state(id).await.unwrap().unwrap();
        assert_eq!(tree.reason.as_deref(), Some(reason));
    }
}
