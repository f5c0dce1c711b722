//! The production idempotency layer between callers that repeat requests and a scripted server: the
//! number of calls that reach it, the times of replays, and the lifetime of results.

mod failures;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::InvalidConfig;
use buttress::idempotency::{
    Config, Handle, IdempotencyLayer, InvalidKey, Key, MemoryStore, Stats,
};
use buttress_sim::{
    Cause, Distribution, Failure, Fault, Faults, Load, Outcome, Request, Scenario, Served, Server,
    Station, What, World, check_determinism,
};
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceExt};

use crate::support::{answers, arrivals, ms, sec};

type Made = (Handle, BoxCloneService<Request, Served, Failure>);

/// Returns the function that finds the key of a request, by its `number`.
fn key<N: Fn(&Request) -> u64 + Clone + Send + 'static>(
    number: N,
) -> impl Fn(&Request) -> Result<Key, InvalidKey> + Clone + Send + 'static {
    move |request| Key::new(&number(request).to_string())
}

/// Makes a layer around `server`, over `store`, with the key that `number` returns for a request.
pub(crate) fn once(
    config: Config,
    store: MemoryStore<Served>,
    number: impl Fn(&Request) -> u64 + Clone + Send + 'static,
    server: Station,
) -> Result<Made, InvalidConfig> {
    let layer = IdempotencyLayer::new(config, store, key(number))?;
    Ok((layer.handle(), BoxCloneService::new(layer.layer(server))))
}

/// Makes a layer like [`once`], whose handlers run on their own tasks.
pub(crate) fn detached(
    config: Config,
    store: MemoryStore<Served>,
    number: impl Fn(&Request) -> u64 + Clone + Send + 'static,
    server: Station,
) -> Result<Made, InvalidConfig> {
    let layer = IdempotencyLayer::new(config, store, key(number))?.detached();
    Ok((layer.handle(), BoxCloneService::new(layer.layer(server))))
}

pub(crate) fn config(world: &World) -> Config {
    Config::new().clock(world.clock()).spawner(world.spawner()).rng(world.rng("claims"))
}

pub(crate) fn server(
    world: &World,
    time: impl Into<Distribution>,
) -> Result<Station, InvalidConfig> {
    world.server(Server::new("server", time).servers(u32::MAX))
}

pub(crate) fn run<S>(
    scenario: &Scenario,
    build: impl FnOnce(&World) -> Result<(Handle, S), InvalidConfig>,
) -> (Outcome, Stats)
where
    S: Service<Request, Response = Served, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    let mut seen = None;
    let outcome = scenario.run(|world| {
        let (handle, service) = build(world)?;
        let gauges = handle.clone();
        world.gauge("stored", move || gauges.stats().store.map_or(0.0, |size| size.stored as f64));
        seen = Some(handle);
        Ok(service)
    });
    (outcome.unwrap(), seen.unwrap().stats())
}

pub(crate) fn at_the_server(outcome: &Outcome) -> u64 {
    outcome.station("server").unwrap().arrived
}

#[test]
fn duplicates_in_flight_wait_for_the_one_answer_or_are_refused() {
    // Three requests every 10 ms, and 25 ms of work: the repetitions arrive while the first runs.
    let times = (1..=900).map(|n| ms(10 * n));
    let scenario = Scenario::new("waits", sec(10)).load(Load::trace(times)).keep_events(true);
    let run = |refuse: bool| {
        run(&scenario, |world| {
            let config = config(world).refuse_in_flight(refuse);
            let store = MemoryStore::new(world.clock());
            once(config, store, |request| request.id / 3, server(world, ms(25))?)
        })
    };
    let (outcome, stats) = run(false);
    assert_eq!(answers(&outcome), [25, 15, 5].map(|after| (Cause::Ok, ms(after))).repeat(300));
    assert_eq!((stats.started, stats.replayed, stats.waited), (300, 600, 600));
    assert_eq!(at_the_server(&outcome), 300);
    let (outcome, stats) = run(true);
    let expected = [(Cause::Ok, ms(25)), (Cause::Error, ms(0)), (Cause::Error, ms(0))];
    assert_eq!(answers(&outcome), expected.repeat(300));
    assert_eq!((stats.started, stats.refused, stats.waited), (300, 600, 0));
    assert_eq!(at_the_server(&outcome), 300);
}

#[test]
fn one_call_a_key_reaches_the_server_whatever_the_share_of_duplicates() {
    for keys in [1, 50, 2_000, 1_000_000] {
        let load = Load::poisson(200.0).keys(keys);
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let (outcome, stats) = run(&Scenario::new("share", sec(30)).load(load), |world| {
            let log = seen.clone();
            let key = move |request: &Request| {
                log.lock().unwrap().insert(request.key);
                request.key
            };
            let server = server(world, Distribution::exponential(ms(20)))?;
            once(config(world), MemoryStore::new(world.clock()), key, server)
        });
        let distinct = seen.lock().unwrap().len() as u64;
        assert_eq!((at_the_server(&outcome), stats.started), (distinct, distinct), "{keys} keys");
        // The expected number of different keys among the requests.
        let (keys, n) = (keys as f64, outcome.requests() as f64);
        let expected = keys * (1.0 - (1.0 - 1.0 / keys).powf(n));
        assert!((distinct as f64 - expected).abs() <= 4.0 * expected.sqrt(), "{distinct}");
        // All other requests got their answer, except those that the end of the run interrupted.
        let left = outcome.requests() - stats.started - stats.replayed;
        assert!(left <= outcome.unfinished() && outcome.ends().of(Cause::Error) == 0, "{stats:?}");
    }
}

#[test]
fn an_answer_is_kept_to_the_nanosecond() {
    let (kept, nano) = (sec(300), Duration::from_nanos(1));
    // Stored 10 ms after it began. At the instant of its expiry the next call runs.
    let first = ms(1_010) + kept;
    let second = first + ms(10) + kept;
    let times = [sec(1), first - nano, first, second - nano, second];
    let scenario = Scenario::new("kept", sec(700)).load(Load::trace(times)).keep_events(true);
    let (outcome, stats) = run(&scenario, |world| {
        let config = config(world).result_lifetime(kept);
        once(config, MemoryStore::new(world.clock()), |_| 7, server(world, ms(10))?)
    });
    let (ran, replayed) = ((Cause::Ok, ms(10)), (Cause::Ok, ms(0)));
    assert_eq!(answers(&outcome), [ran, replayed, ran, replayed, ran]);
    assert_eq!(arrivals(&outcome, "server"), [sec(1), first, second]);
    assert_eq!((stats.started, stats.replayed), (3, 2));
}

#[test]
fn a_full_store_evicts_the_oldest_answer_and_never_a_call_in_flight() {
    let cycle = |keys: u64| {
        let scenario = Scenario::new("cycle", ms(10_005)).load(Load::even(100.0));
        run(&scenario, |world| {
            let store = MemoryStore::with_capacity(world.clock(), 100)?;
            once(config(world), store, move |request| request.id % keys, server(world, ms(1))?)
        })
    };
    let (outcome, stats) = cycle(100);
    assert_eq!(
        (at_the_server(&outcome), stats.replayed, stats.store.unwrap().evicted),
        (100, 900, 0)
    );
    // One key more than the capacity, so each key is evicted before it is repeated.
    let (outcome, stats) = cycle(101);
    assert_eq!((at_the_server(&outcome), stats.replayed), (1_000, 0));
    assert_eq!((stats.store.unwrap().evicted, stats.store.unwrap().stored), (900, 100));
    // Fifty calls in flight with room for one answer.
    let times = (1..=100).map(|n| ms(10 * n));
    let scenario = Scenario::new("in flight", sec(5)).load(Load::trace(times)).keep_events(true);
    let (outcome, stats) = run(&scenario, |world| {
        let store = MemoryStore::with_capacity(world.clock(), 1)?;
        once(config(world), store, |request| request.id / 2, server(world, sec(2))?)
    });
    let expected = [(Cause::Ok, sec(2)), (Cause::Ok, ms(1_990))];
    assert_eq!(answers(&outcome), expected.repeat(50));
    assert_eq!((at_the_server(&outcome), stats.store.unwrap().evicted), (50, 49));
}

#[test]
fn what_has_expired_does_not_pile_up() {
    let scenario = Scenario::new("swept", sec(120)).window(sec(1)).load(Load::poisson(200.0));
    let (outcome, _) = run(&scenario, |world| {
        let config = config(world).result_lifetime(sec(5)).sweep(sec(10), 500);
        let store = MemoryStore::with_capacity(world.clock(), 1_000_000)?;
        once(config, store, |request| request.id, server(world, ms(1))?)
    });
    // The number that arrives in a lifetime, and never another sweep interval more.
    let stored = &outcome.gauge("stored").unwrap().values;
    let most = stored.iter().copied().fold(0.0, f64::max);
    assert!((900.0..1_000.0 * 15.0 / 5.0).contains(&most), "{most}");
    assert_eq!(at_the_server(&outcome), outcome.requests());
}

#[test]
fn two_processes_share_the_answers_of_one_store() {
    // Requests alternate between two layers. The second of each pair finds the key claimed by the
    // other layer, and polls every 100 ms.
    let times = (0..50).flat_map(|n| [ms(1_000 * n + 1), ms(1_000 * n + 11)]);
    let scenario = Scenario::new("two", sec(51)).load(Load::trace(times)).keep_events(true);
    let (outcome, stats) = run(&scenario, |world| {
        let store: MemoryStore<Served> = MemoryStore::new(world.clock());
        let server = server(world, ms(250))?;
        let process = |name: &str, server: Station| {
            let config = config(world).rng(world.rng(name));
            once(config, store.clone(), |request| request.id / 2, server)
        };
        let ((handle, one), (_, two)) = (process("one", server.clone())?, process("two", server)?);
        let service = tower::service_fn(move |request: Request| {
            let (one, two) = (one.clone(), two.clone());
            async move {
                if request.id.is_multiple_of(2) {
                    one.oneshot(request).await
                } else {
                    two.oneshot(request).await
                }
            }
        });
        Ok((handle, service))
    });
    assert_eq!(answers(&outcome), [(Cause::Ok, ms(250)), (Cause::Ok, ms(300))].repeat(50));
    assert_eq!((at_the_server(&outcome), stats.started), (50, 50));
}

#[test]
fn the_same_seed_is_the_same_run() {
    let load = Load::poisson(300.0).keys(40).impatient(Distribution::exponential(ms(60)));
    let faults = Faults::new().at(sec(5), sec(1), "server", Fault::Crash);
    let scenario = Scenario::new("same", sec(20)).load(load).faults(faults);
    let outcome = check_determinism(&scenario, |world| {
        let config =
            config(world).observer(world.observer()).result_lifetime(ms(300)).max_detached(30);
        let server =
            Server::new("server", Distribution::exponential(ms(40))).servers(5).errors(0.1);
        let store = MemoryStore::with_capacity(world.clock(), 15)?;
        Ok(detached(config, store, |request| request.key, world.server(server)?)?.1)
    });
    let outcome = outcome.unwrap();
    assert!(
        outcome.events().unwrap().iter().any(|event| event.what == What::Ended(Cause::Abandoned))
    );
}
