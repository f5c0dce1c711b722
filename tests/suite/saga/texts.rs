//! Texts of user code are truncated before a store gets them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buttress::{Codec, InMemory};
use buttress_durable::saga::{
    Beginning, Call, Definition, Entry, Executor, NewSaga, OnCrash, SagaId, Status, Store, WorkerId,
};
use tower::service_fn;

use super::stores::flaky;
use super::world::*;

/// An error whose text has this number of characters.
#[derive(Debug)]
struct Long(usize, char);

impl fmt::Display for Long {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1.to_string().repeat(self.0))
    }
}

impl std::error::Error for Long {}

/// `steps` parallel steps that refuse with a long text, after a step with an undo that fails
/// `fails` times.
fn refusing(steps: u32, text: (usize, char), fails: usize) -> buttress_durable::saga::Builder<u32> {
    let mut saga = Definition::<u32>::builder("test", 1).max_concurrent(70_000);
    let attempts = Arc::new(AtomicUsize::new(0));
    let undo = service_fn(move |_: Call<u32>| {
        let fails = attempts.fetch_add(1, Ordering::SeqCst) < fails;
        async move { if fails { Err(Long(text.0, text.1)) } else { Ok(()) } }
    });
    let done = service_fn(async |call: Call<u32>| Ok::<u32, Long>(call.into_request()));
    saga.step("first")
        .action((), done, |input: &u32, ()| *input)
        .undo((), undo, |input: &u32, (), _| *input)
        .add();
    saga.parallel(|saga| {
        for step in 0..steps {
            let refuse =
                service_fn(move |_: Call<u32>| async move { Err::<u32, _>(Long(text.0, text.1)) });
            saga.step(format!("s{step}"))
                .action((), refuse, |input: &u32, ()| *input)
                .definite(|_| true)
                .add();
        }
    });
    saga
}

#[tokio::test(start_paused = true)]
async fn a_long_error_text_wedges_no_saga() {
    for (steps, text) in [(1, (17 << 20, 'x')), (16, (2 << 20, 'x')), (1, (5000, '\u{1f680}'))] {
        let store = flaky();
        store.hook().fit_text(16 << 20);
        let saga = refusing(steps, text, 0);
        let sagas = Executor::new(saga.build().unwrap(), store, config()).unwrap();
        let report = sagas.run_to_end(7).await.unwrap();
        assert_eq!(report.status(), Status::Compensated);
        let reason = report.reason().unwrap();
        assert_eq!(reason.chars().count(), 2000);
        assert!(reason.starts_with(&format!("s0: {0}{0}", text.1)));
        let tree = sagas.state(report.id()).await.unwrap().unwrap();
        assert_eq!(tree.reason.as_deref(), Some(reason));
        for step in &tree.steps[1..] {
            assert_eq!(step.note.as_ref().unwrap().chars().count(), 2000);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_text_of_an_undo_is_cut_where_the_saga_is_stuck() {
    let store = flaky();
    store.hook().fit_text(16 << 20);
    let saga = refusing(1, (17 << 20, 'x'), 3);
    let sagas = Executor::new(saga.build().unwrap(), store, config()).unwrap();
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Stuck);
    assert_eq!(report.reason().unwrap().chars().count(), 2000);
    let report = sagas.retry(report.id()).await.unwrap().await.unwrap();
    assert_eq!(report.status(), Status::Compensated);
}

#[tokio::test(start_paused = true)]
async fn a_text_without_an_end_in_a_panic_is_cut_too() {
    let store = flaky();
    store.hook().fit_text(16 << 20);
    let mut saga = Definition::<u32>::builder("test", 1);
    let panic = service_fn(async |_: Call<u32>| -> Result<u32, Long> {
        std::panic::panic_any("p".repeat(17 << 20))
    });
    saga.step("a").action((), panic, |input: &u32, ()| *input).add();
    let sagas = Executor::new(saga.build().unwrap(), store, config()).unwrap();
    let report = sagas.run_to_end(7).await.unwrap();
    assert!(report.reason().unwrap().starts_with("a: panicked: pppp"));
    assert_eq!(report.reason().unwrap().chars().count(), 2000);
}

#[tokio::test(start_paused = true)]
async fn many_texts_at_once_are_written_one_part_after_the_other() {
    // 5000 texts of 8000 bytes are more than 16 MiB, and more entries than one append accepts.
    let store = flaky();
    store.hook().fit_text(16 << 20);
    store.hook().fit_entries(4096);
    let saga = refusing(5000, (2000, '\u{1f680}'), 0);
    let sagas = Executor::new(saga.build().unwrap(), store, config()).unwrap();
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Compensated);
    assert_eq!(sagas.stats().steps_failed, 5000);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_text_gets_none() {
    let store = flaky();
    let world = World::new();
    let saga = sequence(&world, &[("a", &[Answer(1)]), ("b", &[Refuse])]);
    let sagas = Executor::new(saga.build().unwrap(), store.clone(), config()).unwrap();
    store.hook().fit_text(3);
    let report = sagas.run_to_end(7).await.unwrap();
    assert_eq!(report.status(), Status::Compensated);
    assert_eq!(world.seen(), ["a", "b", "undo a"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_left_under_way_is_begun_again_in_parts() {
    let store = flaky();
    let (id, worker) = (SagaId::new(5), WorkerId::new(9));
    let mut saga = Definition::<u32>::builder("test", 1).max_concurrent(70_000);
    saga.parallel(|saga| {
        for step in 0..5000 {
            let on_crash = if step % 2 == 0 { OnCrash::Undo } else { OnCrash::RunAgain };
            let done = service_fn(async |call: Call<u32>| Ok::<u32, Long>(call.into_request()));
            saga.step(format!("s{step}"))
                .on_crash(on_crash)
                .action((), done, |input: &u32, ()| *input)
                .add();
        }
    });
    let started = (0..5000).map(|step| Entry::ActionStarted { step });
    let input = Codec::<u32>::encode(&InMemory, &Arc::new(7)).unwrap();
    let beginning = Beginning::new(input);
    let mut begun = NewSaga::new(id, ("test", 1), "in-memory", worker, beginning);
    begun.entries.extend(started);
    store.create(begun).await.unwrap();
    store.hook().fit_entries(4096);
    let sagas = Executor::new(saga.build().unwrap(), store, config()).unwrap();
    assert_eq!(sagas.recover().await.unwrap().resumed, [id]);
    while sagas.stats().active > 0 {
        tokio::task::yield_now().await;
    }
    let tree = sagas.state(id).await.unwrap().unwrap();
    assert_eq!(tree.status, Status::Compensated);
    assert_eq!((sagas.stats().steps_executed, sagas.stats().steps_failed), (2500, 2500));
}
