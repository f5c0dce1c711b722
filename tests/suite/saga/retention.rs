//! The retention of ended sagas.

use std::time::Duration;

use buttress::{Clock, InMemory};
use buttress_durable::saga::{Config, Executor, MemoryStore, Page, SagaId, Status};

use super::world::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn sagas(
    world: &World,
    store: &MemoryStore,
    config: Config,
    name: &'static str,
) -> Executor<u32, InMemory, MemoryStore> {
    let mut saga = buttress_durable::saga::Definition::<u32>::builder(name, 1);
    saga.step("a")
        .action((), world.service("a", &[Answer(1)], Duration::ZERO), |input: &u32, ()| *input)
        .undo((), world.service("undo a", &[Break], Duration::ZERO), |input: &u32, (), _| *input)
        .add();
    // The service refuses an input of 0.
    let service = tower::service_fn(
        async |call: buttress_durable::saga::Call<u32>| {
            if call.into_request() == 0 { Err("refused") } else { Ok(1) }
        },
    );
    saga.step("b").action((), service, |input: &u32, ()| *input).definite(|_| true).add();
    Executor::new(saga.build().unwrap(), store.clone(), config).unwrap()
}

/// A retention shorter than the default patience.
fn brief(retention: Duration) -> Config {
    config().patience(Duration::from_secs(1)).retention(retention)
}

fn store() -> MemoryStore {
    MemoryStore::new(Clock::default()).keep_ended(100_000)
}

async fn statuses(sagas: &Executor<u32, InMemory, MemoryStore>) -> Vec<Status> {
    let list = sagas.list(Page::first(100_000)).await.unwrap();
    list.into_iter().map(|saga| saga.status).collect()
}

#[tokio::test(start_paused = true)]
async fn ended_sagas_are_kept_for_thirty_days_and_stuck_ones_for_ever() {
    let (world, store) = (World::new(), store());
    let sagas = sagas(&world, &store, config().lease(DAY), "test");
    let id = SagaId::new(5);
    drop(sagas.start_as(id, 7).await.unwrap().await.unwrap());
    assert_eq!(sagas.run_to_end(0).await.unwrap().status(), Status::Stuck);
    Clock::default().sleep(30 * DAY - Duration::from_secs(1)).await;
    assert_eq!(statuses(&sagas).await.len(), 2);
    assert!(sagas.start_as(id, 7).await.is_err());
    Clock::default().sleep(Duration::from_secs(62)).await;
    assert_eq!(statuses(&sagas).await, [Status::Stuck]);
    // The store has forgotten it: it runs again.
    assert_eq!(sagas.start_as(id, 7).await.unwrap().await.unwrap().status(), Status::Completed);
    Clock::default().sleep(31 * DAY).await;
    assert_eq!(statuses(&sagas).await, [Status::Stuck]);
}

#[tokio::test(start_paused = true)]
async fn a_purge_keeps_up_with_whatever_ends() {
    let (world, store) = (World::new(), store());
    let sagas = sagas(&world, &store, brief(Duration::from_secs(5)), "test");
    for _ in 0..3000 {
        drop(sagas.run_to_end(7).await.unwrap());
    }
    assert_eq!(statuses(&sagas).await.len(), 3000);
    Clock::default().sleep(Duration::from_secs(6)).await;
    assert_eq!(statuses(&sagas).await.len(), 0, "many batches one after the other");
}

#[tokio::test(start_paused = true)]
async fn executors_with_other_retentions_share_a_store() {
    let (world, store) = (World::new(), store());
    let hour = Duration::from_secs(3600);
    let brief = sagas(&world, &store, config().lease(DAY).retention(hour), "brief");
    let endless = sagas(&world, &store, config().lease(DAY).keep_forever(), "endless");
    drop(brief.run_to_end(7).await.unwrap());
    let kept = endless.run_to_end(7).await.unwrap().id();
    Clock::default().sleep(7 * DAY).await;
    let left = brief.list(Page::first(9)).await.unwrap();
    assert_eq!(left.iter().map(|saga| saga.id).collect::<Vec<_>>(), [kept]);
}

/// Caught by the crash sweep's question: within its patience a start is written again after a lost answer, and the
/// saga may have ended elsewhere and be removed by then.
#[test]
fn a_retention_no_longer_than_the_patience_is_refused() {
    let saga = || sequence(&World::new(), &[("a", &[Answer(1)])]).build().unwrap();
    let refused = |config| Executor::in_memory(saga(), config).unwrap_err().to_string();
    let none = refused(config().retention(Duration::ZERO));
    assert_eq!(none, "retention: 0ns is not longer than the patience, 60s");
    let minute = Duration::from_secs(60);
    assert!(refused(config().retention(minute)).contains("60s is not longer"), "as long");
    Executor::in_memory(saga(), brief(Duration::from_secs(2))).unwrap();
    Executor::in_memory(saga(), config().retention(3650 * DAY)).unwrap();
    Executor::in_memory(saga(), config().patience(365 * DAY).keep_forever()).unwrap();
}
