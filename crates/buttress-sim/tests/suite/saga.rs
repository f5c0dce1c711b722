//! The production saga over scripted services: the number of completed sagas, the steps that are
//! undone and when, and that every started saga ends.

mod trouble;

use std::time::Duration;

use buttress::retry::{self, Backoff, RetryLayer};
use buttress::{Codec, InMemory, InvalidConfig};
use buttress_durable::saga::{
    Call, Config, Definition, Executor, Leaf, MemoryStore, Stats, Status, Store,
};
use buttress_sim::{
    Cause, Distribution, Failure, Load, Outcome, Rate, Request, Scenario, Served, Server,
    ServerError, Station, World, check_determinism,
};
use tower::{Layer, Service};

use crate::support::{answers, arrivals, ms, sec, share_agrees_with};

pub(crate) type Sagas = Executor<u64, InMemory, MemoryStore>;

/// The steps and undos, with the times that they take.
const STEPS: [(&str, &str, u64, u64); 3] =
    [("reserve", "release", 10, 5), ("charge", "refund", 20, 6), ("ship", "recall", 30, 7)];

/// The behaviour of the steps of a saga.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// The share of actions that fail.
    pub errors: f64,
    /// Whether an error of a service is definite.
    pub definite: bool,
    pub timeout: Option<Duration>,
}

const PLAN: Plan = Plan { errors: 0.0, definite: true, timeout: None };

pub(crate) fn config(world: &World) -> Config {
    Config::new().clock(world.clock()).spawner(world.spawner()).rng(world.rng("saga"))
}

/// The stations of the actions and the undos.
fn stations(world: &World, plan: Plan) -> Result<Vec<(Station, Station)>, InvalidConfig> {
    let station = |(action, undo, takes, undo_takes)| {
        let action = Server::new(action, ms(takes)).servers(u32::MAX).errors(plan.errors);
        let undo = Server::new(undo, ms(undo_takes)).servers(u32::MAX);
        Ok((world.server(action)?, world.server(undo)?))
    };
    STEPS.into_iter().map(station).collect()
}

/// Returns three steps in sequence, each at a separate station, with `layers` around each action.
fn definition<L>(
    stations: Vec<(Station, Station)>,
    plan: Plan,
    layers: impl Fn() -> L,
) -> Result<Definition<u64>, InvalidConfig>
where
    L: Layer<Leaf<Station, Failure>> + 'static,
    L::Service: Service<Call<u64>, Response = Served, Error = Failure, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let mut order = Definition::builder("order", 1);
    for ((name, ..), (action, undo)) in STEPS.into_iter().zip(stations) {
        let mut step = order.step(name);
        if let Some(timeout) = plan.timeout {
            step = step.timeout(timeout);
        }
        step.action(layers(), action, |order: &u64, ()| *order)
            .definite(move |_| plan.definite)
            .undo((), undo, |order: &u64, (), _| *order)
            .add();
    }
    order.build().map_err(|error| InvalidConfig::new("steps", error, "a saga"))
}

pub(crate) fn sagas(world: &World, plan: Plan, config: Config) -> Result<Sagas, InvalidConfig> {
    Executor::in_memory(definition(stations(world, plan)?, plan, || ())?, config)
}

/// Runs a saga per request: ok if it completes, an error if it is undone, and down if it is stuck.
fn service<F: Codec<u64>, St: Store<F::Encoded>>(
    sagas: Executor<u64, F, St>,
) -> impl Service<Request, Response = (), Error = Failure, Future: Send> + Clone + Send + 'static {
    tower::service_fn(move |request: Request| {
        let sagas = sagas.clone();
        async move {
            match sagas.run_to_end(request.id).await.map(|report| report.status()) {
                Ok(Status::Completed) => Ok(()),
                Ok(Status::Compensated) => Err(Failure::from(ServerError::Failed)),
                _ => Err(Failure::from(ServerError::Down)),
            }
        }
    })
}

pub(crate) fn run(
    scenario: &Scenario,
    build: impl FnOnce(&World) -> Result<Sagas, InvalidConfig>,
) -> (Outcome, Stats) {
    let mut seen = None;
    let outcome = scenario.run(|world| {
        let sagas = build(world)?;
        let active = sagas.clone();
        world.gauge("active", move || active.stats().active as f64);
        seen = Some(sagas.clone());
        Ok(service(sagas))
    });
    (outcome.unwrap(), seen.unwrap().stats())
}

/// Returns a scenario with this rate for a minute, and then time for all sagas to end.
fn minute(name: &str, rate: f64) -> Scenario {
    let load = Load::poisson(Rate::steps([(Duration::ZERO, rate), (sec(60), 0.0)]));
    Scenario::new(name, sec(90)).load(load)
}

/// Returns the jobs that arrived, completed and failed at a station.
fn at(outcome: &Outcome, station: &str) -> (u64, u64, u64) {
    let stats = outcome.station(station).unwrap();
    (stats.arrived, stats.completed, stats.failed)
}

#[test]
fn every_saga_goes_through_or_is_undone_and_the_numbers_add_up() {
    for errors in [0.0, 0.05, 0.4, 1.0] {
        for definite in [true, false] {
            let plan = Plan { errors, definite, ..PLAN };
            let (outcome, stats) =
                run(&minute("sums", 100.0), |world| sagas(world, plan, config(world)));
            let what = format!("{errors} definite {definite}: {stats:?}");
            assert_eq!(stats.started, outcome.requests(), "{what}");
            assert_eq!(stats.completed + stats.compensated, stats.started, "{what}");
            assert_eq!((stats.stuck, stats.active, stats.resumed, stats.fenced), (0, 0, 0, 0));
            let ends = outcome.ends();
            assert_eq!(
                (ends.of(Cause::Ok), ends.of(Cause::Error)),
                (stats.completed, stats.compensated)
            );
            // Each step is begun by the sagas that completed the step before, and by no other.
            let [reserve, charge, ship] = STEPS.map(|(action, ..)| at(&outcome, action));
            assert_eq!(
                [charge.0, ship.0, stats.completed],
                [reserve.1, charge.1, ship.1],
                "{what}"
            );
            assert_eq!(stats.steps_executed, reserve.1 + charge.1 + ship.1, "{what}");
            assert_eq!(stats.steps_failed, reserve.2 + charge.2 + ship.2, "{what}");
            // Completed steps are undone. Failed steps are undone too if their effect is in doubt.
            let doubt = u64::from(!definite);
            let [release, refund, recall] = STEPS.map(|(_, undo, ..)| at(&outcome, undo).0);
            assert_eq!(recall, doubt * ship.2, "{what}");
            assert_eq!(refund, ship.2 + doubt * charge.2, "{what}");
            assert_eq!(release, ship.2 + charge.2 + doubt * reserve.2, "{what}");
            assert_eq!(stats.compensations_executed, release + refund + recall, "{what}");
            assert_eq!(stats.compensations_failed, 0);
            share_agrees_with(stats.completed, stats.started, (1.0 - errors).powi(3), &what);
        }
    }
}

#[test]
fn a_saga_takes_what_its_steps_and_undos_take_and_nothing_more() {
    let plan = Plan { errors: 0.3, ..PLAN };
    let (outcome, _) =
        run(&minute("times", 20.0).keep_events(true), |world| sagas(world, plan, config(world)));
    let mut seen: Vec<(Cause, Duration)> = answers(&outcome);
    seen.sort_unstable();
    seen.dedup();
    // Completed; failed in the first step; one step and its undo; two steps and their undos.
    let failed = [10, 10 + 20 + 5, 10 + 20 + 30 + 6 + 5].map(|after| (Cause::Error, ms(after)));
    assert_eq!(seen[..1], [(Cause::Ok, ms(60))]);
    assert_eq!(seen[1..], failed);
}

#[test]
fn a_step_is_cut_short_at_the_instant_of_its_limit_and_undone_first() {
    let run = |limit: Duration| {
        let scenario = Scenario::new("limit", sec(3)).load(Load::trace([sec(1)])).keep_events(true);
        run(&scenario, |world| sagas(world, Plan { timeout: Some(limit), ..PLAN }, config(world)))
    };
    let limit = Duration::from_nanos(19_999_999);
    let (outcome, stats) = run(limit);
    // 10 ms to reserve. The charge is in doubt and its refund takes 6 ms, then the release 5 ms.
    assert_eq!(answers(&outcome), [(Cause::Error, ms(10 + 6 + 5) + limit)]);
    assert_eq!(arrivals(&outcome, "refund"), [ms(1_010) + limit]);
    assert_eq!(arrivals(&outcome, "release"), [ms(1_016) + limit]);
    assert_eq!((stats.steps_executed, stats.steps_failed, stats.compensations_executed), (1, 1, 2));
    assert_eq!(outcome.station("charge").unwrap().orphaned, 1);
    // An answer at the exact instant counts.
    let (outcome, _) = run(ms(20));
    assert_eq!(arrivals(&outcome, "ship"), [ms(1_030)]);
}

#[test]
fn undos_come_in_reverse_each_after_the_other() {
    // The last step takes longer than its time limit.
    let scenario = Scenario::new("reverse", sec(3)).load(Load::trace([sec(1)])).keep_events(true);
    let plan = Plan { timeout: Some(ms(25)), ..PLAN };
    let (outcome, _) = run(&scenario, |world| sagas(world, plan, config(world)));
    let at = |station| arrivals(&outcome, station);
    assert_eq!([at("reserve"), at("charge"), at("ship")], [1_000, 1_010, 1_030].map(|at| [ms(at)]));
    assert_eq!(
        [at("recall"), at("refund"), at("release")],
        [1_055, 1_062, 1_068].map(|at| [ms(at)])
    );
    assert_eq!(answers(&outcome), [(Cause::Error, ms(73))]);
}

#[test]
fn layers_around_a_step_are_those_of_production() {
    let (errors, attempts) = (0.3f64, 3u32);
    let plan = Plan { errors, ..PLAN };
    let (outcome, stats) = run(&minute("layers", 100.0), |world| {
        let retry = || {
            let config = retry::Config::new().attempts(attempts).backoff(Backoff::fixed(ms(1)));
            RetryLayer::new(config.clock(world.clock()).observer(world.observer())).unwrap()
        };
        Executor::in_memory(definition(stations(world, plan)?, plan, retry)?, config(world))
    });
    let through = (1.0 - errors.powi(attempts as i32)).powi(3);
    share_agrees_with(stats.completed, stats.started, through, "with retries");
    assert_eq!(stats.completed + stats.compensated, stats.started);
    let first = at(&outcome, "reserve");
    let expected = (0..attempts).map(|n| errors.powi(n as i32)).sum::<f64>();
    let found = first.0 as f64 / stats.started as f64;
    assert!((found - expected).abs() < 0.04, "{found} attempts, should be {expected}");
    assert_eq!(stats.steps_failed, stats.compensated, "a retried step fails once");
}

#[test]
fn steps_in_a_group_run_beside_each_other() {
    let scenario = minute("group", 50.0).keep_events(true);
    let (outcome, stats) = run(&scenario, |world| {
        let mut order = Definition::builder("order", 1);
        let stations = stations(world, PLAN)?;
        order.parallel(|order| {
            for ((name, ..), (action, undo)) in STEPS.into_iter().zip(stations) {
                let step = order.step(name).action((), action, |order: &u64, ()| *order);
                step.undo((), undo, |order: &u64, (), _| *order).add();
            }
        });
        let order = order.build().map_err(|error| InvalidConfig::new("steps", error, "a saga"))?;
        Executor::in_memory(order, config(world))
    });
    assert!(answers(&outcome).iter().all(|answer| *answer == (Cause::Ok, ms(30))));
    assert_eq!(stats.steps_executed, 3 * outcome.requests());
}

#[test]
fn the_same_seed_is_the_same_run() {
    let load = Load::poisson(50.0).impatient(Distribution::exponential(ms(300)));
    let scenario =
        Scenario::new("same", sec(20)).load(load).faults(trouble::no_undo(sec(5), sec(3)));
    let outcome = check_determinism(&scenario, |world| {
        let plan = Plan { errors: 0.2, definite: false, timeout: Some(ms(25)) };
        Ok(service(sagas(world, plan, config(world))?))
    });
    assert!(outcome.unwrap().station("release").unwrap().arrived > 400);
}
