//! The production balancer in front of scripted services with breakers: a slow endpoint, a dead one, all dead, one
//! that recovers, and a set that changes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::balance::{Balance, Config, Endpoints, Handle, Outliers, Stats};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::discover::{Instance, Resolve};
use buttress::time_limit::TimeLimitLayer;
use buttress::{Clock, InvalidConfig, StoreError};
use buttress_sim::{
    Cause, Distribution, Failure, Fault, Faults, Load, Outcome, Request, Scenario, Served, Server,
    World,
};
use tower::ServiceBuilder;
use tower::util::BoxCloneService;

use crate::support::{arrivals, ms, sec};

const NAMES: [&str; 3] = ["a", "b", "c"];

type Stack = BoxCloneService<Request, Served, Failure>;

fn config(world: &World) -> Config {
    Config::new()
        .name("orders")
        .clock(world.clock())
        .observer(world.observer())
        .rng(buttress::Rng::seeded(7))
        .count_calls(true)
}

/// An endpoint: a time limit and a breaker in backpressure mode around a station.
fn stack(world: &World, name: &str, work: &Distribution) -> Result<Stack, InvalidConfig> {
    let station = world.server(Server::new(name, work.clone()).servers(u32::MAX))?;
    let limit = buttress::time_limit::Config::new(sec(2)).clock(world.clock());
    let breaker = circuit_breaker::Config::new().open_for(sec(1)).clock(world.clock());
    let breaker = CircuitBreakerLayer::new(breaker)?.backpressure();
    let layers = ServiceBuilder::new().layer(breaker).layer(TimeLimitLayer::new(limit)?);
    Ok(BoxCloneService::new(layers.service(station)))
}

/// Runs a scenario over the endpoints `NAMES`.
fn run(
    scenario: &Scenario,
    work: &Distribution,
    configure: impl Fn(Config) -> Config,
) -> (Outcome, Stats) {
    let mut seen: Option<Handle> = None;
    let outcome = scenario.run(|world| {
        let stacks: Vec<Stack> =
            NAMES.iter().map(|name| stack(world, name, work)).collect::<Result<_, _>>()?;
        let set = Endpoints::new();
        set.replace(&NAMES.map(Instance::at), |instance| {
            let place = NAMES.iter().position(|name| *name == instance.id()).unwrap();
            stacks[place].clone()
        });
        let balance = Balance::new(set, configure(config(world)))?;
        seen = Some(balance.handle());
        Ok(balance)
    });
    (outcome.unwrap(), seen.unwrap().stats())
}

/// The share of the calls that an endpoint got from `from` until `to`.
fn share(outcome: &Outcome, name: &str, from: Duration, to: Duration) -> f64 {
    let calls = |name: &str| {
        let times = arrivals(outcome, name);
        times.iter().filter(|at| (from..to).contains(*at)).count() as f64
    };
    calls(name) / NAMES.iter().map(|name| calls(name)).sum::<f64>()
}

#[test]
fn edge_5_6_an_endpoint_that_is_ten_times_slower_gets_few_calls_and_has_its_share_back_in_30_seconds()
 {
    let works: [Distribution; 2] = [ms(10).into(), Distribution::exponential(ms(10))];
    for work in &works {
        for rate in [30.0, 300.0, 1_000.0] {
            let scenario = Scenario::new("slow", sec(230))
                .load(Load::poisson(rate))
                .faults(Faults::new().at(sec(60), sec(60), "b", Fault::Slow(10.0)))
                .keep_events(true);
            let (outcome, _) = run(&scenario, work, |config| config);
            let what = format!("{work:?} at {rate} per second");
            // A third, give or take: at 30 calls per second a single slow answer is felt for seconds.
            let fair = 0.22..0.45;
            let before = share(&outcome, "b", sec(0), sec(60));
            assert!(fair.contains(&before), "before: {before}, {what}");
            let slow = share(&outcome, "b", sec(61), sec(120));
            assert!((0.001..0.12).contains(&slow), "slow: {slow}, {what}");
            let after = share(&outcome, "b", sec(150), sec(230));
            assert!(fair.contains(&after), "after: {after}, {what}");
        }
    }
}

#[test]
fn a_dead_endpoint_costs_a_few_calls_and_comes_back() {
    let scenario = Scenario::new("dead", sec(130))
        .load(Load::poisson(300.0))
        .faults(Faults::new().at(sec(20), sec(40), "b", Fault::Crash))
        .keep_events(true);
    let (outcome, stats) = run(&scenario, &ms(10).into(), |config| config.eject(Outliers::new()));
    // Calls in progress, five that opened the circuit, and its probes.
    assert!((1..=30).contains(&stats.failures), "{stats:?}");
    assert_eq!(outcome.ends().of(Cause::Error), stats.failures);
    assert_eq!((stats.refused, stats.panicked), (0, 0));
    assert!(stats.ejections >= 1, "{stats:?}");
    assert_eq!(outcome.station("b").unwrap().down, stats.failures);
    let after = share(&outcome, "b", sec(100), sec(130));
    assert!((0.27..0.40).contains(&after), "{after}");
}

/// All endpoints are down from 20 s to 40 s.
fn outage(name: &str) -> Scenario {
    let mut faults = Faults::new();
    for name in NAMES {
        faults = faults.at(sec(20), sec(20), name, Fault::Crash);
    }
    Scenario::new(name, sec(60)).load(Load::poisson(100.0)).faults(faults).keep_events(true)
}

#[test]
fn edge_5_8_if_all_are_dead_each_is_still_asked_and_calls_pass_as_soon_as_one_lives() {
    let scenario = outage("all dead");
    let mut seen: Option<Handle> = None;
    // Without breakers, so that every call reaches a station.
    let outcome = scenario.run(|world| {
        let set = Endpoints::new();
        let mut stations = Vec::new();
        for name in NAMES {
            stations.push((name, world.server(Server::new(name, ms(10)).servers(u32::MAX))?));
        }
        let station =
            |it: &Instance| stations.iter().find(|(name, _)| *name == it.id()).unwrap().1.clone();
        set.replace(&NAMES.map(Instance::at), station);
        let balance = Balance::new(set, config(world).eject(Outliers::new()))?;
        seen = Some(balance.handle());
        Ok(balance)
    });
    let (outcome, stats) = (outcome.unwrap(), seen.unwrap().stats());
    assert_eq!(stats.refused, 0, "the balancer itself refuses nothing");
    // Every call of the outage failed at a station, and none after it.
    let down: u64 = NAMES.iter().map(|name| outcome.station(name).unwrap().down).sum();
    assert_eq!((stats.failures, outcome.ends().of(Cause::Error)), (down, down));
    let outage: Vec<u64> = NAMES.iter().map(|name| outcome.station(name).unwrap().down).collect();
    assert!(outage.iter().all(|calls| *calls > 100), "each was asked: {outage:?}");
    let after: Vec<f64> =
        NAMES.iter().map(|name| share(&outcome, name, sec(50), sec(60))).collect();
    assert!(after.iter().all(|share| *share > 0.05), "{after:?}");
}

#[test]
fn open_circuits_everywhere_refuse_after_a_second_and_close_again() {
    let scenario = outage("all open");
    let (outcome, stats) = run(&scenario, &ms(10).into(), |config| config);
    assert!(stats.refused > 1_000, "{stats:?}");
    // A circuit probes at the latest a second after the outage.
    let late = share(&outcome, "a", sec(45), sec(60));
    assert!((0.2..0.5).contains(&late), "{late}");
    let ok = outcome.ends().of(Cause::Ok);
    assert!(ok > 3_700, "{ok} of some 6000, of which 2000 came in the outage");
}

/// Returns sets at fixed times.
struct Plan {
    clock: Clock,
    sets: Vec<(Duration, Vec<Instance>)>,
    waited: Duration,
}

impl Resolve for Plan {
    async fn next(&mut self) -> Result<Vec<Instance>, StoreError> {
        let Some((at, set)) = self.sets.pop() else { return std::future::pending().await };
        self.clock.sleep(at - self.waited).await;
        self.waited = at;
        Ok(set)
    }
}

#[test]
fn edge_5_3_a_set_that_changes_loses_no_call_and_sends_none_to_an_endpoint_that_is_gone() {
    // Each endpoint is gone in turn, for 50 ms of every 150.
    let without = |gone: &str| {
        NAMES.iter().filter(|name| **name != gone).map(|name| Instance::at(*name)).collect()
    };
    let mut sets: Vec<(Duration, Vec<Instance>)> = vec![(ms(0), NAMES.map(Instance::at).to_vec())];
    sets.extend((1..1_000).map(|step| (ms(50 * step), without(NAMES[step as usize % 3]))));
    sets.reverse();
    let scenario = Scenario::new("changes", sec(50)).load(Load::even(997.0)).keep_events(true);
    let seen = Arc::new(Mutex::new(None));
    let outcome = scenario.run(|world| {
        let stacks: Vec<Stack> = NAMES
            .iter()
            .map(|name| stack(world, name, &ms(10).into()))
            .collect::<Result<_, _>>()?;
        let make = move |instance: &Instance| {
            let place = NAMES.iter().position(|name| *name == instance.id()).unwrap();
            stacks[place].clone()
        };
        let plan = Plan { clock: world.clock(), sets: sets.clone(), waited: ms(0) };
        let balance = Balance::new(Endpoints::new(), config(world))?;
        let balance = balance.resolve_on(&world.spawner(), plan, make);
        *seen.lock().unwrap() = Some(balance.handle());
        Ok(balance)
    });
    let outcome = outcome.unwrap();
    let stats = seen.lock().unwrap().take().unwrap().stats();
    assert_eq!((stats.refused, stats.failures, stats.changes), (0, 0, 1_000));
    assert_eq!(outcome.ends().of(Cause::Ok) + outcome.unfinished(), outcome.requests());
    for (place, name) in NAMES.iter().enumerate() {
        let wrong: Vec<_> = arrivals(&outcome, name)
            .into_iter()
            .filter(|at| {
                let (step, into) = (at.as_millis() / 50, at.as_nanos() % 50_000_000);
                // At the very instant of a change either set is right.
                step > 0 && step as usize % 3 == place && into > 0
            })
            .collect();
        assert_eq!(wrong, [], "{name}");
    }
}
