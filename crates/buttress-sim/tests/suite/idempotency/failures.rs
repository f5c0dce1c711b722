//! Calls without an answer: failed, dropped, or lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::idempotency::{IdempotencyLayer, Key, Leave, MemoryStore};
use buttress_sim::{
    Cause, Distribution, Failure, Fault, Faults, Load, Request, Scenario, Served, Server,
};
use tower::{Layer, ServiceExt};

use super::{at_the_server, config, detached, once, run, server};
use crate::support::{answers, arrivals, ms, sec};

#[test]
fn a_failure_is_not_kept_and_one_of_those_who_wait_takes_over() {
    let kept = sec(2);
    let scenario = Scenario::new("failures", sec(120)).load(Load::poisson(200.0).keys(20));
    let well = Arc::new(Mutex::new(BTreeMap::<u64, Vec<Duration>>::new()));
    let (outcome, stats) = run(&scenario, |world| {
        let server = world.server(
            Server::new("server", Distribution::exponential(ms(30))).servers(u32::MAX).errors(0.4),
        )?;
        let (log, under_way) = (well.clone(), Arc::new(Mutex::new(BTreeMap::<u64, u32>::new())));
        let running = under_way.clone();
        world.invariant("one call a key", move |_| {
            let under_way = running.lock().unwrap();
            let twice = under_way.iter().find(|(_, calls)| **calls > 1);
            twice.map_or(Ok(()), |key| Err(format!("{key:?}")))
        });
        let time = world.time().clone();
        let server = tower::service_fn(move |request: Request| {
            let (server, time) = (server.clone(), time.clone());
            let (log, under_way) = (log.clone(), under_way.clone());
            async move {
                *under_way.lock().unwrap().entry(request.key).or_default() += 1;
                let answer = server.oneshot(request).await;
                *under_way.lock().unwrap().entry(request.key).or_default() -= 1;
                if answer.is_ok() {
                    log.lock().unwrap().entry(request.key).or_default().push(time.elapsed());
                }
                answer
            }
        });
        let key = |request: &Request| Key::new(&request.key.to_string());
        let store = MemoryStore::<Served>::new(world.clock());
        let layer = IdempotencyLayer::new(config(world).result_lifetime(kept), store, key)?;
        Ok((layer.handle(), layer.layer(server)))
    });
    assert_eq!(outcome.violations(), []);
    // A key succeeds once per lifetime of its result.
    let well = well.lock().unwrap();
    let gaps = well.values().flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0]));
    assert!(well.len() == 20 && gaps.min().unwrap() >= kept, "{well:?}");
    let server = outcome.station("server").unwrap();
    assert_eq!((stats.started, stats.failed), (server.arrived, server.failed));
    assert_eq!(
        outcome.ends().of(Cause::Error),
        server.failed,
        "only its own caller gets the error"
    );
    // With ten calls per second and key, about every fourth failed call leaves a waiting caller.
    assert!((stats.failed / 6..stats.failed / 2).contains(&stats.taken_over), "{stats:?}");
}

#[test]
fn a_caller_that_hangs_up_stops_the_work_unless_it_runs_detached() {
    // The caller leaves after 50 ms, work takes 80 ms, and another attempt follows after 100 ms.
    let times = (0..100).flat_map(|n| [ms(200 * n + 1), ms(200 * n + 101)]);
    let load = Load::trace(times).impatient(ms(50));
    let scenario = Scenario::new("disconnects", sec(21)).load(load).keep_events(true);
    let gave_up = (Cause::Abandoned, ms(50));
    let (outcome, stats) = run(&scenario, |world| {
        let store = MemoryStore::new(world.clock());
        once(config(world), store, |request| request.id / 2, server(world, ms(80))?)
    });
    assert_eq!(answers(&outcome), vec![gave_up; 200]);
    assert_eq!((at_the_server(&outcome), stats.failed), (200, 200));
    let (outcome, stats) = run(&scenario, |world| {
        let store = MemoryStore::new(world.clock());
        let config = config(world).max_detached(10);
        detached(config, store, |request| request.id / 2, server(world, ms(80))?)
    });
    assert_eq!(answers(&outcome), [gave_up, (Cause::Ok, ms(0))].repeat(100));
    assert_eq!((at_the_server(&outcome), stats.replayed, stats.failed), (100, 100, 0));
}

#[test]
fn a_key_whose_caller_vanished_is_free_when_its_lease_ends() {
    let times = [sec(1), sec(3)];
    let faults = Faults::new().at(ms(500), sec(1), "server", Fault::BlackHole);
    // The first caller leaves after a second, the second caller waits without a limit.
    let scenario = Scenario::new("crash", sec(40)).faults(faults).keep_events(true);
    let (outcome, stats) = run(&scenario.load(Load::trace(times)), |world| {
        let config = config(world)
            .lease(sec(10))
            .abandoned_calls(Leave::UntilLeaseEnds)
            .longest_wait(sec(20));
        let store = MemoryStore::new(world.clock());
        let (handle, service) = once(config, store, |_| 7, server(world, ms(10))?)?;
        let clock = world.clock();
        let service = tower::service_fn(move |request: Request| {
            let (service, give_up) = (service.clone(), clock.sleep(sec(1)));
            async move {
                let call = service.oneshot(request);
                if request.id == 0 { first_of(call, give_up).await } else { call.await }
            }
        });
        Ok((handle, service))
    });
    // Ten seconds from the claim, and its own 10 ms.
    assert_eq!(answers(&outcome), [(Cause::Error, sec(1)), (Cause::Ok, ms(8_010))]);
    assert_eq!(arrivals(&outcome, "server").len(), 1, "the first was swallowed");
    assert_eq!((stats.started, stats.taken_over), (2, 1));
}

/// Waits for the call, unless it takes longer than `give_up`.
async fn first_of(
    call: impl Future<Output = Result<Served, Failure>>,
    give_up: impl Future<Output = ()>,
) -> Result<Served, Failure> {
    let (mut call, mut give_up) = (std::pin::pin!(call), std::pin::pin!(give_up));
    std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
        std::task::Poll::Pending => {
            let down = Err(Failure::from(buttress_sim::ServerError::Down));
            give_up.as_mut().poll(cx).map(|()| down)
        }
        answer => answer,
    })
    .await
}
