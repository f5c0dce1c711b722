//! Undos that fail, and a worker that disappears.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::retry::Backoff;
use buttress::{Codec, Spawner};
use buttress_durable::saga::{Executor, MemoryStore, Page, Status, StepStatus, Store};
use buttress_sim::{Cause, Fault, Faults, Load, Rate, Request, Scenario, World};
use tower::ServiceExt;
use tower::util::Either;

use super::{PLAN, Plan, STEPS, at, config, definition, minute, run, sagas, service, stations};
use crate::support::{answers, arrivals, ms, sec};

/// A fault of `release`: reservations are not undone.
pub(super) fn no_undo(from: Duration, lasting: Duration) -> Faults {
    Faults::new().at(from, lasting, "release", Fault::Crash)
}

#[test]
fn an_undo_is_attempted_until_it_is_done() {
    // The charge fails at 1.03 s. The release is unavailable until 1.5 s and is attempted at 1.03,
    // 1.13, .. 1.53 s.
    let scenario = Scenario::new("again", sec(3))
        .load(Load::trace([sec(1)]))
        .faults(no_undo(sec(1), ms(500)))
        .keep_events(true);
    let (outcome, stats) = run(&scenario, |world| {
        let config = config(world).undo_retry(10, Backoff::fixed(ms(100)));
        sagas(world, Plan { timeout: Some(ms(19)), definite: true, ..PLAN }, config)
    });
    // In doubt after 19 ms, refunded 6 ms later.
    assert_eq!(arrivals(&outcome, "refund"), [ms(1_029)]);
    assert_eq!(arrivals(&outcome, "release"), [ms(1_535)], "not while it is down");
    assert_eq!(outcome.station("release").unwrap().down, 5);
    assert_eq!(answers(&outcome), [(Cause::Error, ms(540))]);
    assert_eq!((stats.compensations_executed, stats.compensations_failed), (2, 0));
}

#[test]
fn a_saga_whose_undo_fails_is_stuck_until_an_operator_decides() {
    let scenario = minute("stuck", 50.0).faults(no_undo(sec(20), sec(20)));
    let operated = Arc::new(Mutex::new(0));
    let (outcome, stats) = run(&scenario, |world| {
        let config = config(world).undo_retry(3, Backoff::fixed(sec(1)));
        let sagas = sagas(world, Plan { errors: 0.2, ..PLAN }, config)?;
        let later = world.clock().sleep(sec(70));
        world.spawner().spawn(retry_all(sagas.clone(), later, operated.clone()));
        Ok(sagas)
    });
    let operated = *operated.lock().unwrap();
    // Of the failures in the 20 s, all except those of the last two seconds: 0.2 * 0.8 + 0.2 * 0.64
    // of 50 per second.
    assert!((180..=320).contains(&operated), "{operated}");
    assert_eq!((stats.stuck, stats.compensations_failed), (operated, operated));
    assert_eq!(stats.completed + stats.compensated, stats.started, "all have ended: {stats:?}");
    let [charge, ship] = ["charge", "ship"].map(|action| at(&outcome, action));
    assert_eq!(at(&outcome, "release").1, charge.2 + ship.2);
}

/// After `time`, retries all stuck sagas and stores their number in `found`.
async fn retry_all<F: Codec<u64>, St: Store<F::Encoded>>(
    sagas: Executor<u64, F, St>,
    time: impl Future<Output = ()>,
    found: Arc<Mutex<u64>>,
) {
    time.await;
    let stuck = sagas.list(Page::first(10_000).status(Status::Stuck)).await.unwrap();
    for saga in &stuck {
        let tree = sagas.state(saga.id).await.unwrap().unwrap();
        assert_eq!(tree.steps[0].status, StepStatus::UndoFailed, "{tree}");
        let report = sagas.retry(saga.id).await.unwrap().await.unwrap();
        assert_eq!(report.status(), Status::Compensated);
    }
    *found.lock().unwrap() = stuck.len() as u64;
}

#[test]
fn another_worker_ends_the_sagas_of_one_that_vanished() {
    let (lease, stops_at) = (sec(5), sec(30));
    let load = Load::even(Rate::steps([(Duration::ZERO, 500.0), (sec(35), 0.0)]));
    let mut workers = None;
    let outcome = Scenario::new("crash", sec(60)).load(load).run(|world| {
        let plan = Plan { errors: 0.1, ..PLAN };
        let (stations, store) =
            (stations(world, plan)?, MemoryStore::new(world.clock()).keep_ended(100_000));
        let worker = |name: &str, spawner: Spawner| {
            let definition = definition(stations.clone(), plan, || ())?;
            let config = config(world).rng(world.rng(name)).spawner(spawner).lease(lease);
            Executor::new(definition, store.clone(), config)
        };
        let one = worker("one", mortal(world, stops_at))?;
        let two = worker("two", world.spawner())?;
        two.keep_recovering(sec(1));
        workers = Some((one.clone(), two.clone()));
        let (one, two, time) = (service(one), service(two), world.time().clone());
        Ok(tower::service_fn(move |request: Request| {
            let worker = if time.elapsed() < stops_at {
                Either::Left(one.clone())
            } else {
                Either::Right(two.clone())
            };
            worker.oneshot(request)
        }))
    });
    let outcome = outcome.unwrap();
    let (one, two) = workers.map(|(one, two)| (one.stats(), two.stats())).unwrap();
    // A caller that waited for a saga of the first worker gets an error, and the saga ends
    // nevertheless.
    let orphans = one.started - one.completed - one.compensated;
    assert!(orphans > 20, "{one:?}");
    assert_eq!((two.resumed, one.fenced + two.fenced, two.stuck), (orphans, 0, 0));
    assert_eq!(one.started + two.started, outcome.requests());
    let ended = [one, two].map(|worker| worker.completed + worker.compensated);
    assert_eq!(ended, [one.started - orphans, two.started + orphans]);
    // Only steps in flight run twice. Every completed step of an undone saga is undone once.
    let all: Vec<_> = STEPS.iter().map(|(action, ..)| at(&outcome, action).0).collect();
    let recorded = one.steps_executed + two.steps_executed + one.steps_failed + two.steps_failed;
    assert!((recorded..=recorded + orphans).contains(&all.iter().sum()), "{all:?} of {recorded}");
    let undone: u64 = STEPS.iter().map(|(_, undo, ..)| at(&outcome, undo).0).sum();
    let recorded = one.compensations_executed + two.compensations_executed;
    assert!((recorded..=recorded + orphans).contains(&undone), "{undone} of {recorded}");
}

/// Returns a spawner whose tasks are dropped after `life`.
fn mortal(world: &World, life: Duration) -> Spawner {
    let (spawner, clock) = (world.spawner(), world.clock());
    let end = world.start() + life;
    Spawner::new(move |mut task: buttress::Task| {
        let mut end = Box::pin(clock.sleep_until(end));
        spawner.spawn(std::future::poll_fn(move |cx| match task.as_mut().poll(cx) {
            std::task::Poll::Pending => end.as_mut().poll(cx),
            ended => ended,
        }));
    })
}
