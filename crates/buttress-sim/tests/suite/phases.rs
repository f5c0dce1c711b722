//! The states of a run: stable, overloaded, recovering and metastable.

use buttress::time_limit::{self, TimeLimitLayer};
use buttress_sim::{
    Distribution, Fault, Faults, Leave, Load, Outcome, PhaseKind, Rate, Report, Scenario, Server,
    Trigger,
};
use tower::Layer;

use crate::support::{ms, sec};

/// A server of 100 calls per second, behind callers who wait for half a second. It finishes jobs
/// whose caller left.
fn limited(scenario: Scenario) -> Outcome {
    let outcome = scenario.run(|world| {
        let limit = time_limit::Config::new(ms(500)).clock(world.clock());
        let work = Distribution::exponential(ms(10));
        let server = Server::new("db", work).leave(Leave::Continue);
        Ok(TimeLimitLayer::new(limit)?.layer(world.server(server)?))
    });
    outcome.unwrap()
}

#[test]
fn a_load_that_only_grows_is_never_metastable() {
    let steps = || Rate::steps([(sec(0), 50.0), (sec(20), 90.0), (sec(40), 110.0)]);
    let loads: [(&str, Load); 7] = [
        ("steps", Load::poisson(steps())),
        ("even steps", Load::even(steps())),
        ("ramp 80 to 120", Load::poisson(Rate::ramp(80.0, 120.0, sec(60)))),
        ("ramp 90 to 115", Load::poisson(Rate::ramp(90.0, 115.0, sec(60)))),
        ("110", Load::poisson(110.0)),
        ("even 105", Load::even(105.0)),
        ("impatient steps", Load::poisson(steps()).impatient(ms(500))),
    ];
    for (name, load) in loads {
        let mut ended = 0;
        for seed in (0..20).chain([34, 42]) {
            let scenario = Scenario::new("growing", sec(60)).seed(seed).load(load.clone());
            let outcome = match name {
                "impatient steps" => scenario.run(|world| {
                    world.server(Server::new("db", Distribution::exponential(ms(10))))
                }),
                _ => Ok(limited(scenario)),
            };
            let outcome = outcome.unwrap();
            let phases = outcome.phases();
            assert!(!outcome.was(PhaseKind::Metastable), "{name}, seed {seed}: {phases:?}");
            assert!(!outcome.was(PhaseKind::Recovering), "{name}, seed {seed}: {phases:?}");
            ended += u32::from(outcome.ended_in() == PhaseKind::Overloaded);
        }
        assert!(ended >= 20, "{name}: {ended} of 22 end overloaded");
    }
}

#[test]
fn a_ramp_to_more_than_twice_the_capacity_ends_overloaded() {
    for seed in 0..50 {
        let load = Load::poisson(Rate::ramp(20.0, 220.0, sec(60)));
        let scenario = Scenario::new("ramp", sec(60)).seed(seed).load(load);
        let work = Distribution::exponential(ms(10));
        let outcome = scenario.run(|world| world.server(Server::new("db", work.clone()))).unwrap();
        assert!(!outcome.was(PhaseKind::Metastable), "seed {seed}: {:?}", outcome.phases());
        assert_eq!(outcome.phases()[0].kind, PhaseKind::Stable, "seed {seed}");
        assert_eq!(
            outcome.ended_in(),
            PhaseKind::Overloaded,
            "seed {seed}: {:?}",
            outcome.phases()
        );
    }
}

#[test]
fn a_load_above_the_capacity_is_not_stable_though_no_window_says_so_alone() {
    for (rate, job, seconds) in
        [(150.0, 10, 60), (150.0, 10, 120), (20.0, 100, 60), (4.0, 500, 60), (30.0, 100, 600)]
    {
        let scenario = Scenario::new("above", sec(seconds)).load(Load::even(rate));
        let outcome = scenario.run(|world| world.server(Server::new("db", ms(job)))).unwrap();
        let phases = outcome.phases();
        assert_eq!(outcome.ended_in(), PhaseKind::Overloaded, "{rate}: {phases:?}");
        let stable = phases.iter().filter(|phase| phase.kind == PhaseKind::Stable);
        let stable: f64 = stable.map(|phase| (phase.to - phase.from).as_secs_f64()).sum();
        assert!(stable < 0.1 * seconds as f64, "{rate}: {phases:?}");
        let text = Report::new("above").add(outcome).to_text();
        assert!(text.contains("overloaded") && !text.contains("stable"), "{text}");
    }
    for seed in 0..10 {
        let load = Load::poisson(Rate::steps([(sec(0), 50.0), (sec(30), 150.0)]));
        let scenario = Scenario::new("steps", sec(60)).seed(seed).load(load);
        let outcome = scenario.run(|world| world.server(Server::new("db", ms(10)))).unwrap();
        let kinds: Vec<_> = outcome.phases().iter().map(|phase| phase.kind).collect();
        assert_eq!(kinds, [PhaseKind::Stable, PhaseKind::Overloaded], "seed {seed}");
    }
}

#[test]
fn errors_beyond_the_healthy_share_are_not_stable() {
    let run = |errors: f64, rate: f64| {
        let scenario = Scenario::new("errors", sec(60)).load(Load::even(rate));
        let server = Server::new("db", ms(1)).servers(100).errors(errors);
        scenario.run(|world| world.server(server)).unwrap()
    };
    for rate in [20.0, 150.0] {
        assert_eq!(run(0.3, rate).ended_in(), PhaseKind::Overloaded, "{rate}");
        let phases = run(0.05, rate).phases().to_vec();
        assert!(phases.iter().all(|phase| phase.kind == PhaseKind::Stable), "{rate}: {phases:?}");
    }
}

/// The judgement of long stretches must not find a shortage in a queue that grows and shrinks.
#[test]
fn a_busy_server_that_carries_its_load_is_stable() {
    for seed in 0..30 {
        let scenario = Scenario::new("busy", sec(120)).seed(seed).load(Load::poisson(85.0));
        let work = Distribution::exponential(ms(10));
        let outcome = scenario.run(|world| world.server(Server::new("db", work.clone()))).unwrap();
        let kinds: Vec<_> = outcome.phases().iter().map(|phase| phase.kind).collect();
        assert_eq!(kinds, [PhaseKind::Stable], "seed {seed}: {:?}", outcome.phases());
    }
}

#[test]
fn a_fault_that_leaves_a_backlog_is_a_trigger_and_a_growing_load_is_none() {
    let faults = Faults::new().at(sec(20), sec(3), "db", Fault::Pause);
    let after_fault =
        limited(Scenario::new("pause", sec(60)).load(Load::even(90.0)).faults(faults));
    let kinds: Vec<_> = after_fault.recoveries().iter().map(|r| r.trigger).collect();
    assert_eq!(kinds, [Trigger::Fault], "{:?}", after_fault.recoveries());
    assert!(after_fault.was(PhaseKind::Metastable), "{:?}", after_fault.phases());
    let spike = Rate::spike(50.0, 300.0, sec(20), sec(2));
    let after_spike = limited(Scenario::new("spike", sec(60)).load(Load::even(spike)));
    let kinds: Vec<_> = after_spike.recoveries().iter().map(|r| r.trigger).collect();
    assert_eq!(kinds, [Trigger::Load], "{:?}", after_spike.recoveries());
    assert_eq!(after_spike.ended_in(), PhaseKind::Stable);
}
