//! Systems that keep themselves down after their trigger is over: load spike and capacity drop,
//! each sustained by retries or by a loss of capacity (Huang et al., "Metastable failures in the
//! wild", 2022). The simulator detects them, and a layer cures them.

use std::time::Duration;

use buttress::InvalidConfig;
use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::retry::{self, Backoff, Budget, RetryLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress_sim::{
    Distribution, Failure, Fault, Faults, Load, Outcome, PhaseKind, Queue, Rate, Request, Scenario,
    Served, Server, World,
};
use tower::ServiceBuilder;
use tower::util::{BoxCloneService, Either};

use crate::support::{ms, sec};

/// The capacity is 150 calls per second.
const SERVERS: u32 = 3;
const OFFERED: f64 = 100.0;

#[derive(Clone, Copy, PartialEq)]
enum Trigger {
    Spike,
    CapacityDrop,
}

#[derive(Clone, Copy, PartialEq)]
enum Amplifier {
    Retries,
    /// The longer the queue, the slower the work.
    CapacityLoss,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Cure {
    None,
    Budget,
    Breaker,
    ConcurrencyLimit,
}

fn run(trigger: Trigger, amplifier: Amplifier, cure: Cure) -> Outcome {
    let scenario = Scenario::new(format!("{cure:?}"), sec(100)).seed(5).window(sec(1));
    let scenario =
        match trigger {
            Trigger::Spike => {
                scenario.load(Load::poisson(Rate::spike(OFFERED, 400.0, sec(20), sec(4))))
            }
            Trigger::CapacityDrop => scenario
                .load(Load::poisson(OFFERED))
                .faults(Faults::new().at(sec(20), sec(4), "service", Fault::Capacity(1))),
        };
    scenario.run(|world| stack(world, amplifier, cure)).unwrap()
}

type Stack = BoxCloneService<Request, Served, Failure>;

fn stack(world: &World, amplifier: Amplifier, cure: Cure) -> Result<Stack, InvalidConfig> {
    let work = Distribution::exponential(ms(20));
    let mut server = Server::new("service", work).servers(SERVERS).queue(Queue::fifo().bound(400));
    if amplifier == Amplifier::CapacityLoss {
        server = server.slowdown(|load| 1.0 + f64::from(load.waiting) / 60.0);
    }
    let attempts = if amplifier == Amplifier::Retries { 4 } else { 1 };
    let retry = retry::Config::new()
        .attempts(attempts)
        .backoff(Backoff::exponential(ms(100)))
        .rng(world.rng("jitter"))
        .clock(world.clock())
        .observer(world.observer());
    let retry = if cure == Cure::Budget { retry.budget(Budget::new(0.1, 1)?) } else { retry };
    let breaker = circuit_breaker::Config::new()
        .failure_rate(0.5)
        .time_window(sec(2))
        .open_for(sec(5))
        .clock(world.clock())
        .observer(world.observer());
    let bulkhead = bulkhead::Config::new().max_concurrent(30).clock(world.clock());
    let limit = time_limit::Config::new(Duration::from_millis(500)).clock(world.clock());
    let service =
        ServiceBuilder::new().layer(TimeLimitLayer::new(limit)?).service(world.server(server)?);
    let breaker = CircuitBreakerLayer::new(breaker)?;
    let bulkhead = BulkheadLayer::new(bulkhead)?;
    let service = match cure {
        Cure::Breaker => Either::Left(ServiceBuilder::new().layer(breaker).service(service)),
        _ => Either::Right(service),
    };
    let service = match cure {
        Cure::ConcurrencyLimit => {
            Either::Left(ServiceBuilder::new().layer(bulkhead).service(service))
        }
        _ => Either::Right(service),
    };
    Ok(BoxCloneService::new(ServiceBuilder::new().layer(RetryLayer::new(retry)?).service(service)))
}

#[track_caller]
fn stays_down_and_is_cured(trigger: Trigger, amplifier: Amplifier, cure: Cure) {
    let down = run(trigger, amplifier, Cure::None);
    assert_eq!(down.ended_in(), PhaseKind::Metastable, "{:?}", down.phases());
    assert_eq!(down.phases()[0].kind, PhaseKind::Stable);
    assert_eq!(down.recoveries().last().unwrap().after, None);
    let trigger_ended = down.recoveries().last().unwrap().trigger_ended;
    assert!((23..=26).contains(&trigger_ended.as_secs()), "{trigger_ended:?}");
    let cured = run(trigger, amplifier, cure);
    assert!(!cured.was(PhaseKind::Metastable), "{:?}", cured.phases());
    assert_eq!(cured.ended_in(), PhaseKind::Stable);
    let after = cured.recoveries().last().unwrap().after.unwrap();
    assert!(after <= sec(15), "{after:?}");
    assert!(cured.goodput() > 3.0 * down.goodput());
}

#[test]
fn a_load_spike_kept_up_by_retries_is_cured_by_a_budget() {
    stays_down_and_is_cured(Trigger::Spike, Amplifier::Retries, Cure::Budget);
}

#[test]
fn a_capacity_drop_kept_up_by_retries_is_cured_by_a_breaker() {
    stays_down_and_is_cured(Trigger::CapacityDrop, Amplifier::Retries, Cure::Breaker);
}

#[test]
fn a_load_spike_kept_up_by_a_loss_of_capacity_is_cured_by_a_concurrency_limit() {
    stays_down_and_is_cured(Trigger::Spike, Amplifier::CapacityLoss, Cure::ConcurrencyLimit);
}

#[test]
fn a_capacity_drop_kept_up_by_a_loss_of_capacity_is_cured_by_a_breaker() {
    stays_down_and_is_cured(Trigger::CapacityDrop, Amplifier::CapacityLoss, Cure::Breaker);
}

#[test]
fn plain_overload_is_not_metastable() {
    let overload = |load: Load| {
        let scenario = Scenario::new("overload", sec(100)).seed(5).window(sec(1)).load(load);
        scenario
            .run(|world| {
                let work = Distribution::exponential(ms(20));
                let limit = time_limit::Config::new(ms(500)).clock(world.clock());
                let server = Server::new("service", work).servers(SERVERS);
                let server = server.queue(Queue::fifo().bound(100));
                Ok(ServiceBuilder::new()
                    .layer(TimeLimitLayer::new(limit)?)
                    .service(world.server(server)?))
            })
            .unwrap()
    };
    let for_ever = overload(Load::poisson(200.0));
    assert!(!for_ever.was(PhaseKind::Metastable), "{:?}", for_ever.phases());
    assert_eq!(for_ever.ended_in(), PhaseKind::Overloaded);
    assert!(for_ever.recoveries().is_empty());
    let grows = overload(Load::poisson(Rate::ramp(50.0, 300.0, sec(90))));
    assert!(!grows.was(PhaseKind::Metastable), "{:?}", grows.phases());
    assert_eq!(
        (grows.phases()[0].kind, grows.ended_in()),
        (PhaseKind::Stable, PhaseKind::Overloaded)
    );
    let passes = overload(Load::poisson(Rate::spike(OFFERED, 400.0, sec(20), sec(10))));
    assert!(!passes.was(PhaseKind::Metastable), "{:?}", passes.phases());
    assert_eq!(passes.ended_in(), PhaseKind::Stable);
    assert!(
        passes.recoveries().last().unwrap().after.unwrap() <= sec(4),
        "{:?}",
        passes.recoveries()
    );
}
