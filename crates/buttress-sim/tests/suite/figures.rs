//! The figures of a run, and what they exclude.

use std::time::Duration;

use buttress::circuit_breaker::{Config, KeyedCircuitBreakerLayer};
use buttress::{AnyError, circuit_breaker};
use buttress_sim::{
    Cause, Engine, Fault, Faults, Load, Outcome, Queue, Rate, Report, Request, Scenario, Server,
    SimError,
};
use tower::Layer;

use crate::support::{ms, sec};

#[test]
fn a_120th_of_the_run_makes_120_windows() {
    for duration in [sec(60), sec(7), Duration::from_nanos(1_000_000_007), ms(10)] {
        let outcome =
            Scenario::new("windows", duration).run(|world| world.server(Server::new("db", ms(1))));
        let outcome = outcome.unwrap();
        assert_eq!(outcome.windows().len(), 120, "{duration:?}");
        let last = outcome.windows().last().unwrap();
        assert_eq!(last.start + last.length, duration);
        assert!(outcome.windows()[0].length - last.length < Duration::from_nanos(120));
    }
}

#[test]
fn windows_that_do_not_divide_the_run_are_drawn_where_they_are() {
    let run = |window| {
        let faults = Faults::new().at(sec(6), sec(3), "db", Fault::Crash);
        let scenario = Scenario::new("drawn", sec(10)).window(window).faults(faults);
        let scenario = scenario.load(Load::even(100.0));
        let outcome = scenario.run(|world| world.server(Server::new("db", ms(1)))).unwrap();
        Report::new("drawn").add(outcome).to_html()
    };
    // The windows of 3 s begin at 0, 3, 6 and 9 s; the fault, at 6 s, is drawn at the same place.
    let html = run(sec(3));
    let place = |after: &str| {
        let at = html.find(after).map(|at| at + after.len()).unwrap();
        html[at..].split('"').next().unwrap().to_owned()
    };
    let fault = place("<rect class=\"fault\" x=\"");
    assert!(html.contains(&format!("<rect class=\"hover\" x=\"{fault}\"")), "{fault}");
}

#[test]
fn a_target_that_is_no_station_is_refused() {
    let scenario = Scenario::new("target", sec(1)).target("databse");
    let refused = scenario.run(|world| world.server(Server::new("database", ms(1)))).unwrap_err();
    let SimError::Invalid(error) = refused else { panic!("{refused}") };
    assert_eq!((error.field(), error.value()), ("target", "databse"));
}

#[test]
fn circuits_without_a_name_and_circuits_of_one_name_have_a_band_each() {
    let crash = |target: &str| (sec(2), sec(2), target.to_owned(), Fault::Crash);
    let faults = [crash("one"), crash("two")]
        .into_iter()
        .fold(Faults::new(), |all, fault| all.at(fault.0, fault.1, fault.2, fault.3));
    let rules = || Config::new().consecutive_failures(3).open_for(ms(500));
    let scenario = Scenario::new("bands", sec(10)).load(Load::even(100.0)).faults(faults.clone());
    let outcome = scenario.run(|world| {
        let breaker = |config: Config| {
            let config = config.clock(world.clock()).observer(world.observer());
            Ok(circuit_breaker::CircuitBreakerLayer::new(config)?.classify(AnyError))
        };
        let inner = breaker(rules())?.layer(world.server(Server::new("one", ms(1)))?);
        world.server(Server::new("two", ms(1)))?;
        Ok(breaker(rules().open_for(sec(1)))?.layer(inner))
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.bands().len(), 2, "{:?}", outcome.bands());
    let keyed = Scenario::new("keyed", sec(10)).load(Load::even(100.0).keys(3)).faults(faults);
    let outcome = keyed.run(|world| {
        let config = rules().name("hosts").clock(world.clock()).observer(world.observer());
        let key = |request: &Request| request.key;
        let breaker = KeyedCircuitBreakerLayer::new(config, 10, key)?.classify(AnyError);
        world.server(Server::new("two", ms(1)))?;
        Ok(breaker.layer(world.server(Server::new("one", ms(1)))?))
    });
    let names: Vec<_> = outcome.unwrap().bands().iter().map(|band| band.name.clone()).collect();
    assert_eq!(names, ["hosts", "hosts (2)", "hosts (3)"]);
}

/// One circuit closes before the next opens, so their states do not distinguish them.
#[test]
fn circuits_of_one_layer_that_open_one_after_the_other_have_a_band_each() {
    let down = |faults: Faults, at, name: &str| faults.at(sec(at), sec(1), name, Fault::Crash);
    let faults = down(down(Faults::new(), 2, "even"), 6, "odd");
    let scenario = Scenario::new("hosts", sec(10)).load(Load::even(100.0)).faults(faults);
    let outcome = scenario.run(|world| {
        let rules = Config::new().consecutive_failures(3).open_for(ms(200)).name("hosts");
        let config = rules.clock(world.clock()).observer(world.observer());
        let breaker =
            KeyedCircuitBreakerLayer::new(config, 10, |request: &Request| request.id % 2)?;
        let even = world.server(Server::new("even", ms(1)))?;
        let odd = world.server(Server::new("odd", ms(1)))?;
        Ok(breaker.classify(AnyError).layer(tower::service_fn(move |request: Request| {
            let mut hosts = [even.clone(), odd.clone()];
            let host = &mut hosts[request.id as usize % 2];
            tower::Service::call(host, request)
        })))
    });
    let bands = outcome.unwrap().bands().to_vec();
    assert_eq!(bands.len(), 2, "{bands:?}");
    let first = |band: &buttress_sim::Band| band.states[1].0;
    assert!(first(&bands[0]) < sec(3) && first(&bands[1]) > sec(6), "{bands:?}");
}

#[test]
fn a_station_counts_the_ends_of_the_calls_that_it_counts() {
    for queue in [Queue::fifo(), Queue::fifo().bound(3)] {
        let scenario = Scenario::new("warm", sec(20)).warm_up(sec(5)).load(Load::poisson(95.0));
        let outcome =
            scenario.run(|world| world.server(Server::new("db", ms(10)).queue(queue))).unwrap();
        let stats = *outcome.station("db").unwrap();
        let ended = stats.completed + stats.failed + stats.overloaded + stats.down;
        let under_way = u64::from(stats.waiting + stats.running);
        assert_eq!(stats.arrived, ended + stats.cancelled + stats.swallowed + under_way);
        assert_eq!(outcome.attempts(), outcome.requests());
    }
}

fn crashed_half_of_the_time(engine: Engine) -> Outcome {
    let faults = Faults::new().at(sec(5), sec(5), "db", Fault::Crash);
    let scenario = Scenario::new("half", sec(10)).load(Load::even(100.0)).faults(faults);
    scenario.engine(engine).run(|world| world.server(Server::new("db", ms(1)))).unwrap()
}

#[test]
fn a_failure_is_no_fast_success() {
    let outcome = crashed_half_of_the_time(Engine::Own);
    assert_eq!(outcome.latency().quantile(0.99), ms(1), "of the successful requests");
    assert_eq!(outcome.latency_of(Cause::Error).max(), Duration::ZERO);
    assert_eq!(outcome.quantile_of_all(0.4), Some(ms(1)));
    assert_eq!(outcome.quantile_of_all(0.99), None, "half did not succeed");
    let text = Report::new("half").add(outcome).to_text();
    assert!(text.contains("p99 of ok") && text.contains("p99 of all"), "{text}");
    assert!(text.contains("unanswered"), "{text}");
}

#[test]
fn a_request_that_the_end_cuts_short_is_no_failure() {
    for engine in [Engine::Own, Engine::Tokio] {
        // The last of ten is in flight at the end.
        let scenario = Scenario::new("cut", sec(1)).load(Load::trace((0..10).map(|n| ms(n * 100))));
        let outcome = scenario
            .engine(engine)
            .run(|world| world.server(Server::new("db", ms(101)).servers(2)));
        let outcome = outcome.unwrap();
        assert_eq!((outcome.requests(), outcome.unfinished()), (10, 1));
        assert_eq!((outcome.share(Cause::Ok), outcome.ends().all()), (1.0, 9));
        assert_eq!(outcome.windows().iter().map(|window| window.ends.all()).sum::<u64>(), 9);
    }
}

#[test]
fn a_run_without_a_fault_has_nothing_after_one() {
    let spike = Rate::spike(50.0, 400.0, sec(5), sec(2));
    let loads = [
        (Load::even(50.0), "stable"),
        (Load::even(300.0), "overloaded"),
        (Load::even(spike), "stable"),
    ];
    for (load, end) in loads {
        let scenario = Scenario::new("run", sec(30)).load(load);
        let server = || Server::new("db", ms(10)).queue(Queue::fifo().bound(10));
        let text = Report::new("calm").add(scenario.run(|w| w.server(server())).unwrap()).to_text();
        let row = text.lines().nth(1).unwrap();
        assert!(row.contains(&format!("–                {end}")), "{text}");
    }
    let scenario = Scenario::new("run", sec(30)).load(Load::even(50.0));
    let faults = Faults::new().at(sec(5), sec(2), "db", Fault::Crash);
    let outcome = scenario.faults(faults).run(|world| world.server(Server::new("db", ms(1))));
    let text = Report::new("fault").add(outcome.unwrap()).to_text();
    assert!(text.contains("back immediately") && text.contains("stable"), "{text}");
}

#[test]
fn a_run_in_which_nothing_was_answered_has_no_times() {
    let scenario = Scenario::new("errors", sec(10)).load(Load::even(10.0));
    let outcome = scenario.run(|world| world.server(Server::new("db", ms(1)).errors(1.0))).unwrap();
    let report = Report::new("errors").add(outcome);
    let text = report.to_text();
    let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[2..8], ["0", "0", "%", "–", "–", "unanswered"], "{text}");
    assert!(report.to_html().contains("<td>–</td><td>–</td><td>unanswered</td>"));
}

#[test]
fn a_job_from_before_the_warm_up_does_not_leave() {
    let run = |warm_up| {
        let scenario = Scenario::new("left", sec(10)).load(Load::trace([ms(4900)]));
        let outcome = scenario.warm_up(warm_up).run(|w| w.server(Server::new("db", ms(500))));
        *outcome.unwrap().station("db").unwrap()
    };
    let stats = run(sec(5));
    assert_eq!((stats.arrived, stats.completed, stats.left), (0, 0, 0));
    assert_eq!((stats.sojourn, stats.mean_sojourn()), (Duration::ZERO, Duration::ZERO));
    assert_eq!(stats.present, ms(400), "the job was in the system");
    let stats = run(Duration::ZERO);
    assert_eq!((stats.arrived, stats.left, stats.sojourn), (1, 1, ms(500)));
}

#[test]
fn the_heat_rows_show_the_longest_run() {
    let run = |seconds| {
        let scenario = Scenario::new("length", sec(seconds)).window(sec(1));
        scenario.run(|world| world.server(Server::new("db", ms(1)))).unwrap()
    };
    let html = Report::new("rows").add(run(10)).add(run(40)).to_html();
    assert!(html.contains("length at 39 s"), "the last window of the longer run");
}
