//! A store that is unavailable for a long time, or that needs a manual repair.

use std::time::Duration;

use buttress::telemetry::{Reading, Source as _};
use buttress::{Clock, StoreErrorKind};
use buttress_durable::saga::{Definition, Executor, Monitor, Page, SagaError, Status};

use super::stores::{Flaky, flaky};
use super::world::*;
use crate::support::lines::Lines;

const MINUTE: Duration = Duration::from_secs(60);

async fn pass(time: Duration) {
    Clock::default().sleep(time).await;
}

/// Twenty sagas that write, a lease that is renewed, and a recovery that polls every second.
async fn under_way() -> (Flaky, Executor<u32, buttress::InMemory, Flaky>) {
    let world = World::new();
    let store = flaky();
    let mut saga = Definition::builder("test", 1);
    for step in ["a", "b"] {
        let service = world.service(step, &[Answer(1)], Duration::from_millis(500));
        saga.step(step)
            .timeout(Duration::from_secs(1))
            .action((), service, |input: &u32, ()| *input)
            .definite(refusals)
            .undo((), world.service("undo", &[Answer(0)], Duration::ZERO), |_, (), output| output)
            .add();
    }
    let sagas = Executor::new(saga.build().unwrap(), store.clone(), config()).unwrap();
    for _ in 0..20 {
        drop(sagas.start(7).await.unwrap());
    }
    sagas.keep_recovering(Duration::from_secs(1));
    (store, sagas)
}

/// Checks the numbers of lines by level, ERROR, WARN and INFO, and that every saga is complete.
async fn assert_ended(
    sagas: &Executor<u32, buttress::InMemory, Flaky>,
    lines: &Lines,
    levels: (usize, usize, usize),
) {
    assert_eq!(lines.levels(), levels);
    let completed = sagas.list(Page::first(100).status(Status::Completed)).await.unwrap();
    assert_eq!(completed.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn in_a_long_outage_waits_grow_and_two_lines_are_logged() {
    let lines = Lines::capture();
    let (store, sagas) = under_way().await;
    let outage = store.hook().away(StoreErrorKind::Transient);
    pass(MINUTE).await;
    let before = outage.hits();
    // Each saga, the lease and the recovery every ten seconds.
    pass(10 * MINUTE).await;
    let failures = outage.hits() - before;
    assert!((200..=1500).contains(&failures), "{failures} questions in ten minutes");
    assert_eq!(lines.levels(), (0, 1, 0));
    assert_eq!(sagas.stats().store_failed, before + failures);
    outage.lift();
    pass(MINUTE).await;
    assert_ended(&sagas, &lines, (0, 0, 1)).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_person_must_mend_is_asked_once_a_minute_and_logged_once() {
    let lines = Lines::capture();
    let (store, sagas) = under_way().await;
    let outage = store.hook().away(StoreErrorKind::Misconfigured);
    pass(10 * MINUTE).await;
    let failures = outage.hits();
    assert!((20 * 9..=22 * 11 + 22).contains(&failures), "{failures} questions in ten minutes");
    assert_eq!(lines.levels(), (1, 0, 0));
    // A new saga is refused immediately, without waiting for the repair of the store.
    let began = Clock::default().now();
    let error = sagas.start(7).await.unwrap_err();
    assert!(
        matches!(&error, SagaError::Store { error, .. } if error.is_misconfigured()),
        "{error}"
    );
    assert!(Clock::default().now() - began < Duration::from_secs(1));
    assert_eq!(lines.levels(), (0, 0, 0));
    outage.lift();
    pass(3 * MINUTE).await;
    assert_ended(&sagas, &lines, (0, 0, 1)).await;
}

/// Only the logs cannot be written: the end of this outage is logged too.
#[tokio::test(start_paused = true)]
async fn an_outage_of_writes_alone_ends_in_the_log_as_well() {
    let lines = Lines::capture();
    let (store, sagas) = under_way().await;
    store.hook().faults.on("append").first(40).fail(StoreErrorKind::Transient);
    pass(MINUTE).await;
    assert_ended(&sagas, &lines, (0, 1, 1)).await;
}

/// A saga that waits for the repair of its store does not keep the process from ending.
#[tokio::test(start_paused = true)]
async fn a_shut_down_does_not_wait_for_somebody_to_mend_the_store() {
    let (store, sagas) = under_way().await;
    store.hook().away(StoreErrorKind::Misconfigured);
    pass(MINUTE / 2).await;
    let began = Clock::default().now();
    let _ = sagas.shut_down().await;
    assert!(Clock::default().now() - began < Duration::from_secs(5));
}

/// An operator sees that the numbers of a monitor are old.
#[tokio::test(start_paused = true)]
async fn a_monitor_counts_the_queries_that_failed_and_keeps_its_numbers() {
    let (store, _sagas) = under_way().await;
    let monitor = Monitor::new("orders", store.clone(), Clock::default());
    let read = |name: &str, status: &[(&str, &str)]| {
        let mut reading = Reading::new();
        monitor.read(&mut reading);
        reading.value(name, status)
    };
    assert_eq!(read("buttress.saga.refresh_failed", &[]), Some(0.0));
    monitor.refresh().await.unwrap();
    store.hook().away(StoreErrorKind::Transient);
    for _ in 0..2 {
        monitor.refresh().await.unwrap_err();
    }
    assert_eq!(read("buttress.saga.refresh_failed", &[]), Some(2.0));
    assert_eq!(read("buttress.saga.stored", &[("status", "running")]), Some(20.0));
}
