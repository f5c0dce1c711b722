//! The report of a recovery, and the number of sagas that it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use buttress::{Clock, InMemory, Json, Spawner, Task, VirtualClock};
use buttress_durable::saga::{Call, Config, Definition, Executor, MemoryStore, SagaId, Status};
use tower::{BoxError, service_fn};

use super::world::*;
use crate::support::lines::Lines;
use crate::support::ms;

/// The number of running calls, and its maximum.
#[derive(Clone, Default)]
struct Running(Arc<(AtomicUsize, AtomicUsize)>);

type Sagas = Executor<u32, InMemory, MemoryStore>;

/// One step of 10 ms.
fn worker(running: &Running, store: &MemoryStore, config: Config) -> Sagas {
    let mut saga = Definition::<u32>::builder("test", 1);
    let running = running.clone();
    let service = service_fn(move |_: Call<u32>| {
        let running = running.clone();
        async move {
            let now = running.0.0.fetch_add(1, Ordering::SeqCst) + 1;
            running.0.1.fetch_max(now, Ordering::SeqCst);
            Clock::default().sleep(ms(10)).await;
            running.0.0.fetch_sub(1, Ordering::SeqCst);
            Ok::<u32, BoxError>(1)
        }
    });
    saga.step("a").action((), service, |input: &u32, ()| *input).add();
    Executor::new(saga.build().unwrap(), store.clone(), config).unwrap()
}

/// Tasks that end at their first wait: a saga's task ends when the saga is in the store.
fn dying() -> Spawner {
    Spawner::new(|mut task: Task| {
        let _ = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    })
}

/// Sagas of a worker that crashed in their first step.
async fn orphans(store: &MemoryStore, sagas: usize) {
    let mut saga = Definition::<u32>::builder("test", 1);
    let never =
        service_fn(async |_: Call<u32>| std::future::pending::<Result<u32, BoxError>>().await);
    saga.step("a").action((), never, |input: &u32, ()| *input).add();
    let config = config().spawner(dying());
    let worker = Executor::new(saga.build().unwrap(), store.clone(), config).unwrap();
    for _ in 0..sagas {
        drop(worker.start(7).await.unwrap());
    }
    Clock::default().sleep(Duration::from_secs(11)).await;
}

async fn idle(sagas: &Sagas) {
    while sagas.stats().active > 0 {
        Clock::default().sleep(ms(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_so_many_of_those_taken_over_run_at_once() {
    for (config, most) in [(config(), 256), (config().max_resumed(7), 7)] {
        let (store, running) = (MemoryStore::new(Clock::default()), Running::default());
        orphans(&store, 600).await;
        let sagas = worker(&running, &store, config);
        assert_eq!(sagas.recover().await.unwrap().resumed.len(), 600);
        // A newly started saga does not wait for them.
        let report = sagas.run_to_end(7).await.unwrap();
        assert_eq!(report.status(), Status::Completed);
        idle(&sagas).await;
        assert_eq!((sagas.stats().completed, sagas.stats().resumed), (601, 600));
        let at_most = running.0.1.load(Ordering::SeqCst);
        assert!((most..=most + 1).contains(&at_most), "{at_most}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shut_down_does_not_wait_for_those_whose_turn_has_not_come() {
    let (store, running) = (MemoryStore::new(Clock::default()), Running::default());
    orphans(&store, 20).await;
    let sagas = worker(&running, &store, config().max_resumed(2));
    assert_eq!(sagas.recover().await.unwrap().resumed.len(), 20);
    Clock::default().sleep(ms(5)).await;
    sagas.shut_down().await.unwrap();
    assert_eq!((sagas.stats().active, running.0.1.load(Ordering::SeqCst)), (0, 2));
    let next = worker(&running, &store, config());
    assert_eq!(next.recover().await.unwrap().resumed.len(), 20);
    idle(&next).await;
    assert_eq!(next.stats().completed, 20);
}

/// Returns when the deadline of a crashed worker's saga interrupts it, counted from its recovery 11
/// s after its start. The wall clock of the next worker differs by `skew` seconds.
fn cut_after(first: Config, next: Config, skew: i64) -> Option<Duration> {
    const HOUR: Duration = Duration::from_secs(3_600);
    let time = VirtualClock::new();
    let mut simulation = buttress_sim::Executor::new(&time);
    let store = MemoryStore::new(time.clock());
    let (spawner, clock) = (simulation.spawner(), time.clock());
    let run = async {
        let never = |config: Config| {
            let mut saga = Definition::<u32>::builder("test", 1);
            let never = service_fn(async |_: Call<u32>| {
                std::future::pending::<Result<u32, BoxError>>().await
            });
            let undo = service_fn(async |_: Call<u32>| Ok::<u32, BoxError>(0));
            saga.step("a")
                .action((), never, |input: &u32, ()| *input)
                .undo((), undo, |input: &u32, (), _| *input)
                .add();
            Executor::new(saga.build().unwrap(), store.clone(), config).unwrap()
        };
        let crashed = never(first.clock(clock.clone()).spawner(dying()));
        drop(crashed.start(7).await.unwrap());
        clock.sleep(Duration::from_secs(11)).await;
        time.set_skew(skew * 1_000_000_000);
        let sagas = never(next.clock(clock.clone()).spawner(spawner));
        assert_eq!(sagas.recover().await.unwrap().resumed.len(), 1);
        let recovered = time.elapsed();
        while sagas.stats().active > 0 && time.elapsed() - recovered < 3 * HOUR {
            clock.sleep(Duration::from_secs(1)).await;
        }
        (sagas.stats().active == 0).then(|| time.elapsed() - recovered)
    };
    simulation.block_on(run).unwrap()
}

#[test]
fn a_recovered_saga_ends_at_its_deadline_and_no_later_than_the_executor_allows() {
    let seconds = Duration::from_secs;
    let minute = || config().deadline(seconds(60));
    // As stored.
    assert_eq!(cut_after(minute(), minute(), 0), Some(seconds(49)));
    // Set forward, beyond the deadline.
    assert!(cut_after(minute(), minute(), 3_600).unwrap() <= seconds(1));
    // Set back by an hour, and by less than the elapsed time.
    assert_eq!(cut_after(minute(), minute(), -3_600), Some(seconds(60)));
    assert_eq!(cut_after(minute(), minute(), -5), Some(seconds(54)));
    // An executor with a shorter deadline, and one without.
    assert_eq!(cut_after(minute(), config().deadline(seconds(20)), 0), Some(seconds(20)));
    assert_eq!(cut_after(minute(), config(), -3_600), Some(seconds(3_649)));
    assert_eq!(cut_after(config(), minute(), 0), None);
}

#[test]
fn no_slots_are_refused() {
    let saga = sequence(&World::new(), &[("a", &[Answer(1)])]).build().unwrap();
    let refused = Executor::in_memory(saga, Config::new().max_resumed(0)).unwrap_err();
    assert_eq!(refused.to_string(), "max-resumed: 0 is not at least 1");
}

fn version(
    store: &MemoryStore<Vec<u8>>,
    version: u32,
    config: Config,
) -> Executor<u32, Json, MemoryStore<Vec<u8>>> {
    let mut saga = Definition::<u32>::builder("order", version).codec(Json);
    let never =
        service_fn(async |_: Call<u32>| std::future::pending::<Result<u32, BoxError>>().await);
    saga.step("a").action((), never, |input: &u32, ()| *input).add();
    Executor::new(saga.build().unwrap(), store.clone(), config).unwrap()
}

#[tokio::test(start_paused = true)]
async fn sagas_of_another_version_are_reported() {
    let store = MemoryStore::of_bytes(Clock::default());
    let old = version(&store, 1, config().spawner(dying()));
    let new = version(&store, 2, config());
    let ids = [SagaId::new(1), SagaId::new(2)];
    for id in ids {
        drop(old.start_as(id, 7).await.unwrap());
    }
    assert_eq!(new.recover().await.unwrap().other_versions, [], "their worker is alive");
    Clock::default().sleep(Duration::from_secs(11)).await;
    let lines = Lines::capture();
    for _ in 0..3 {
        let recovery = new.recover().await.unwrap();
        let others: Vec<_> =
            recovery.other_versions.iter().map(|saga| (saga.id, saga.version)).collect();
        assert_eq!(others, ids.map(|id| (id, 1)));
        assert!(recovery.resumed.is_empty() && recovery.left.is_empty());
    }
    assert_eq!(lines.levels(), (0, 1, 0), "logged once");
    let old = version(&store, 1, config());
    assert_eq!(old.recover().await.unwrap().resumed, ids);
    assert_eq!(new.recover().await.unwrap().other_versions, []);
}
