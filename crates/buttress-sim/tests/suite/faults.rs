//! The effects of faults, and their ends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::time_limit::{Config, TimeLimitLayer};
use buttress_sim::{
    Cause, Distribution, Event, Fault, Faults, Leave, Link, Load, Outcome, Queue, Scenario, Server,
    SimError, What,
};
use tower::Layer;

use crate::support::{answers, ms, sec, share_agrees_with};

/// Sends one request per second, at the full seconds from 1 on, to a server that takes 100 ms.
fn run(faults: Faults, server: impl Fn(Server) -> Server) -> Outcome {
    Scenario::new("faults", Duration::from_millis(10_950))
        .load(Load::even(1.0))
        .faults(faults)
        .keep_events(true)
        .run(|world| world.server(server(Server::new("db", ms(100)))))
        .unwrap()
}

/// Returns how requests ended, and how many milliseconds after the second in which they began.
fn ends(outcome: &Outcome) -> Vec<(Cause, u64)> {
    let mut ends: Vec<(u64, Cause, u64)> = Vec::new();
    for Event { at, what, id, .. } in outcome.events().unwrap() {
        if let What::Ended(cause) = what {
            ends.push((*id, *cause, at.as_millis() as u64 - (id + 1) * 1000));
        }
    }
    ends.sort_by_key(|(id, ..)| *id);
    ends.into_iter().map(|(_, cause, after)| (cause, after)).collect()
}

const OK: (Cause, u64) = (Cause::Ok, 100);

/// Ten requests that end well, except the second and the third one.
fn with_other_ends(second: (Cause, u64), third: (Cause, u64)) -> Vec<(Cause, u64)> {
    let mut ends = vec![OK; 10];
    (ends[1], ends[2]) = (second, third);
    ends
}

#[test]
fn a_pause_holds_work_up_and_loses_none() {
    // From the middle of the second job on.
    let outcome = run(Faults::new().at(ms(2_040), ms(1_500), "db", Fault::Pause), |server| server);
    assert_eq!(ends(&outcome), with_other_ends((Cause::Ok, 1_600), (Cause::Ok, 700)));
}

#[test]
fn a_crash_loses_what_is_under_way_and_refuses_until_the_restart() {
    let outcome = run(Faults::new().at(ms(2_040), ms(1_500), "db", Fault::Crash), |server| server);
    assert_eq!(ends(&outcome), with_other_ends((Cause::Error, 40), (Cause::Error, 0)));
    let stats = outcome.station("db").unwrap();
    assert_eq!((stats.down, stats.completed, stats.arrived), (2, 8, 10));
    assert_eq!(stats.wasted, ms(40));
}

#[test]
fn a_black_hole_never_answers() {
    let outcome = run(Faults::new().at(ms(1_950), sec(1), "db", Fault::BlackHole), |server| server);
    let abandoned = ends(&outcome).iter().filter(|(cause, _)| *cause == Cause::Abandoned).count();
    assert_eq!((abandoned, outcome.station("db").unwrap().swallowed), (1, 1));
}

#[test]
fn slowness_errors_and_added_latency_are_of_jobs_that_begin_meanwhile() {
    let faults = Faults::new()
        .at(ms(1_950), ms(500), "db", Fault::Slow(3.0))
        .at(ms(3_950), ms(500), "db", Fault::Latency(Distribution::constant(ms(7))))
        .at(ms(5_950), ms(500), "db", Fault::Errors(1.0))
        .at(ms(7_950), ms(500), "db", Fault::Gray { share: 1.0, factor: 2.0 });
    let mut expected = vec![OK; 10];
    expected[1] = (Cause::Ok, 300);
    expected[3] = (Cause::Ok, 107);
    expected[5] = (Cause::Error, 100);
    expected[7] = (Cause::Ok, 200);
    assert_eq!(ends(&run(faults, |server| server)), expected);
}

#[test]
fn faults_of_one_target_that_overlap_combine() {
    let both = |one: Fault, two: Fault| {
        Faults::new().at(ms(1_950), ms(500), "db", one).at(ms(1_950), ms(500), "db", two)
    };
    let latency = |ms| Fault::Latency(Distribution::constant(Duration::from_millis(ms)));
    let second = |faults| ends(&run(faults, |server| server))[1];
    assert_eq!(second(both(latency(100), latency(30))), (Cause::Ok, 230));
    assert_eq!(second(both(Fault::Slow(2.0), Fault::Slow(3.0))), (Cause::Ok, 600));
    let gray = |factor| Fault::Gray { share: 1.0, factor };
    assert_eq!(second(both(gray(2.0), gray(3.0))), (Cause::Ok, 600));
    // Half of the remaining half.
    let errors = |server: fn(Server) -> Server| {
        let half = || Fault::Errors(0.5);
        let faults = Faults::new().at(sec(0), sec(100), "db", half());
        let faults = faults.at(sec(0), sec(100), "db", half());
        let scenario = Scenario::new("errors", sec(100)).load(Load::even(100.0)).faults(faults);
        let outcome = scenario.run(|world| world.server(server(Server::new("db", ms(1))))).unwrap();
        (outcome.ends().of(Cause::Error), outcome.ends().all())
    };
    let (failed, all) = errors(|server| server);
    share_agrees_with(failed, all, 0.75, "two halves");
    let (failed, all) = errors(|server| server.errors(0.5));
    share_agrees_with(failed, all, 0.875, "three halves");
}

#[test]
fn faults_of_one_link_that_overlap_combine() {
    let run = |faults: [Fault; 2], lose: f64| {
        let faults = faults
            .into_iter()
            .fold(Faults::new(), |all, fault| all.at(Duration::ZERO, sec(100), "wire", fault));
        let scenario = Scenario::new("wire", sec(100)).load(Load::even(100.0)).faults(faults);
        let outcome = scenario.run(|world| {
            let link = world.link(Link::new("wire").delay(ms(1)).loss(lose))?;
            let limit = TimeLimitLayer::new(Config::new(ms(500)).clock(world.clock()))?;
            Ok(limit.layer(link.layer(world.server(Server::new("db", ms(1)).servers(100))?)))
        });
        outcome.unwrap()
    };
    let delay = |ms| Fault::Delay(Distribution::constant(Duration::from_millis(ms)));
    let slow = run([delay(100), delay(30)], 0.0);
    assert_eq!((slow.latency().mean(), slow.latency().max()), (ms(263), ms(263)));
    let lossy = run([Fault::Loss(0.2), Fault::Loss(0.2)], 0.0);
    let arrived = lossy.station("db").unwrap().arrived;
    share_agrees_with(arrived, lossy.requests(), 0.64, "passed twice with 0.8");
    let lossy = run([Fault::Loss(0.2), Fault::Loss(0.2)], 0.5);
    let arrived = lossy.station("db").unwrap().arrived;
    share_agrees_with(arrived, lossy.requests(), 0.32, "passed the link itself");
}

#[test]
fn a_fault_that_lasts_no_time_has_no_effect() {
    for fault in [Fault::Crash, Fault::Pause, Fault::BlackHole, Fault::Errors(1.0)] {
        let faults = Faults::new().at(sec(5), Duration::ZERO, "db", fault.clone());
        let outcome = run(faults, |server| server);
        assert_eq!(ends(&outcome), vec![OK; 10], "{fault:?}");
        assert!(outcome.faults().is_empty(), "{fault:?}");
    }
    let flapping =
        Faults::new().flapping(sec(1), sec(9), "db", Fault::Crash, Duration::ZERO, sec(1));
    assert_eq!(ends(&run(flapping, |server| server)), vec![OK; 10]);
}

#[test]
fn a_pause_is_no_work() {
    // Half of the second job is done when the pause begins.
    let faults = Faults::new().at(ms(2_050), ms(1_500), "db", Fault::Pause);
    let stats = *run(faults, |server| server).station("db").unwrap();
    assert_eq!((stats.completed, stats.busy, stats.wasted), (10, sec(1), Duration::ZERO));
    // The pause is not wasted work either, for a job that fails or crashes during it.
    let pause = || Faults::new().at(ms(2_050), ms(500), "db", Fault::Pause);
    let failing = *run(pause(), |server| server.errors(1.0)).station("db").unwrap();
    assert_eq!((failing.failed, failing.busy, failing.wasted), (10, sec(1), sec(1)));
    let crash = pause().at(ms(2_300), ms(250), "db", Fault::Crash);
    let crashed = *run(crash, |server| server).station("db").unwrap();
    assert_eq!((crashed.down, crashed.busy, crashed.wasted), (1, ms(950), ms(50)));
}

#[test]
fn flapping_comes_and_goes() {
    let faults = Faults::new().flapping(ms(1_500), ms(9_500), "db", Fault::Crash, sec(1), sec(1));
    let causes: Vec<Cause> =
        ends(&run(faults, |server| server)).iter().map(|(cause, _)| *cause).collect();
    use Cause::{Error, Ok};
    assert_eq!(causes, [Ok, Error, Ok, Error, Ok, Error, Ok, Error, Ok, Ok]);
}

#[test]
fn a_cut_of_capacity_lets_running_jobs_end() {
    // Three concurrent jobs of 100 ms, at intervals of 10 ms, each time.
    let times = [1_000, 1_010, 1_020, 2_000, 2_010, 2_020];
    let outcome = Scenario::new("capacity", sec(3))
        .load(Load::trace(times.map(ms)))
        .faults(Faults::new().at(ms(2_005), sec(1), "db", Fault::Capacity(1)))
        .keep_events(true)
        .run(|world| world.server(Server::new("db", ms(100)).servers(3)))
        .unwrap();
    let finished: Vec<u64> = outcome
        .events()
        .unwrap()
        .iter()
        .filter(|event| event.what == What::JobFinished)
        .map(|event| event.at.as_millis() as u64)
        .collect();
    assert_eq!(finished, [1_100, 1_110, 1_120, 2_100, 2_200, 2_300]);
}

#[test]
fn work_goes_on_for_nobody_or_is_dropped_when_the_caller_leaves() {
    let run = |leave: Leave| {
        Scenario::new("leave", ms(1_000))
            .load(Load::trace([0, 10, 20].map(ms)).impatient(ms(50)))
            .run(|world| world.server(Server::new("db", ms(100)).leave(leave)))
            .unwrap()
    };
    let goes_on = *run(Leave::Continue).station("db").unwrap();
    assert_eq!((goes_on.completed, goes_on.orphaned, goes_on.cancelled), (3, 3, 0));
    assert_eq!((goes_on.busy, goes_on.wasted), (ms(300), ms(300)));
    let dropped = *run(Leave::Cancel).station("db").unwrap();
    // The second begins when the first caller leaves, 40 ms after it arrived, and has 10 ms. The
    // third does too.
    assert_eq!((dropped.completed, dropped.cancelled), (0, 3));
    assert_eq!((dropped.busy, dropped.wasted), (ms(70), ms(70)));
}

#[test]
fn a_full_queue_turns_away_at_once() {
    let outcome = Scenario::new("bound", ms(1_000))
        .load(Load::trace([0, 1, 2, 3].map(ms)))
        .run(|world| world.server(Server::new("db", ms(100)).queue(Queue::fifo().bound(1))))
        .unwrap();
    let stats = outcome.station("db").unwrap();
    assert_eq!((stats.completed, stats.overloaded), (2, 2));
    assert_eq!(outcome.ends().of(Cause::Error), 2);
}

#[test]
fn a_link_delays_and_a_partition_loses_in_both_directions() {
    let run = |faults: Faults| {
        Scenario::new("link", ms(5_000))
            .load(Load::trace([0, 1_000, 2_000].map(ms)))
            .faults(faults)
            .run(|world| {
                let link = world.link(Link::new("wire").delay(ms(30)))?;
                let limit = TimeLimitLayer::new(Config::new(ms(500)).clock(world.clock()))?;
                Ok(limit.layer(link.layer(world.server(Server::new("db", ms(100)))?)))
            })
            .unwrap()
    };
    let fine = run(Faults::new());
    assert_eq!((fine.ends().of(Cause::Ok), fine.latency().max()), (3, ms(160)));
    // The request of the second call is lost, and the answer of the third.
    let request = run(Faults::new().at(ms(990), ms(50), "wire", Fault::Partition));
    let db = |outcome: &Outcome| outcome.station("db").unwrap().arrived;
    assert_eq!((request.ends().of(Cause::Timeout), db(&request)), (1, 2));
    let answer = run(Faults::new().at(ms(2_100), ms(50), "wire", Fault::Partition));
    assert_eq!((answer.ends().of(Cause::Timeout), db(&answer)), (1, 3));
}

#[test]
fn a_link_that_is_slow_or_loses_messages_does_so_in_both_directions_and_for_its_time() {
    let run = |fault: Fault| {
        // 100 requests per second. The fault affects those of the middle third.
        let scenario = Scenario::new("wire", sec(3))
            .load(Load::trace((0..300).map(|n| ms(10 * n))))
            .faults(Faults::new().at(ms(995), ms(1_000), "wire", fault))
            .keep_events(true);
        let outcome = scenario.run(|world| {
            let link = world.link(Link::new("wire").delay(ms(1)))?;
            let limit = TimeLimitLayer::new(Config::new(ms(500)).clock(world.clock()))?;
            Ok(limit.layer(link.layer(world.server(Server::new("db", ms(1)).servers(u32::MAX))?)))
        });
        answers(&outcome.unwrap())
    };
    let fine = (Cause::Ok, ms(3));
    let slow = run(Fault::Delay(Distribution::constant(ms(7))));
    assert_eq!([&slow[..100], &slow[200..]].concat(), vec![fine; 200]);
    // Two messages of 8 ms; the answer to the last request arrives after the fault.
    assert_eq!(slow[100..199], vec![(Cause::Ok, ms(17)); 99]);
    assert_eq!(slow[199], (Cause::Ok, ms(10)));
    let lossy = run(Fault::Loss(0.3));
    assert_eq!([&lossy[..100], &lossy[200..]].concat(), vec![fine; 200]);
    let lost =
        lossy[100..200].iter().filter(|answer| **answer == (Cause::Timeout, ms(500))).count();
    // An expected 51 of a hundred.
    assert!((31..=71).contains(&lost), "{lost}");
}

#[test]
fn a_gray_failure_is_of_a_share_and_leaves_the_rest_alone() {
    let scenario = Scenario::new("gray", sec(100))
        .load(Load::poisson(100.0))
        .faults(Faults::new().at(sec(0), sec(100), "db", Fault::Gray { share: 0.1, factor: 20.0 }))
        .keep_events(true);
    let outcome = scenario.run(|world| world.server(Server::new("db", ms(5)).servers(u32::MAX)));
    let answers = answers(&outcome.unwrap());
    let of = |time| answers.iter().filter(|answer| **answer == (Cause::Ok, time)).count() as u64;
    share_agrees_with(of(ms(100)), answers.len() as u64, 0.1, "twenty times as slow");
    assert!(of(ms(5)) + of(ms(100)) + 20 > answers.len() as u64, "nothing between");
}

#[test]
fn a_skewed_clock_is_wrong_about_the_date_and_right_about_durations() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = seen.clone();
    Scenario::new("skew", sec(4))
        .load(Load::even(1.0))
        .faults(Faults::new().at(ms(1_500), sec(1), "node", Fault::Skew(-7_000_000_000)))
        .run(|world| {
            let (node, here, start) = (world.node("node"), world.clock(), world.start());
            Ok(tower::service_fn(move |_: buttress_sim::Request| {
                let off = here.unix().as_secs() as i64 - node.unix().as_secs() as i64;
                log.lock().unwrap().push((off, (node.now() - start).as_secs()));
                std::future::ready(Ok::<(), buttress_sim::Failure>(()))
            }))
        })
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), [(0, 1), (7, 2), (0, 3)]);
}

#[test]
fn what_is_not_there_cannot_be_struck() {
    let scenario = |fault| {
        Scenario::new("unknown target", sec(1)).faults(Faults::new().at(
            ms(1),
            ms(1),
            "cache",
            fault,
        ))
    };
    let run = |fault| scenario(fault).run(|world| world.server(Server::new("db", ms(1))));
    let error = run(Fault::Pause).unwrap_err().to_string();
    assert_eq!(error, "target: cache is not known to the world");
    assert!(run(Fault::Errors(2.0)).is_err());
    let link = Scenario::new("kind", sec(1)).faults(Faults::new().at(
        ms(1),
        ms(1),
        "db",
        Fault::Partition,
    ));
    assert!(
        link.run(|world| world.server(Server::new("db", ms(1)))).is_err(),
        "a station is not a link"
    );
}

#[test]
fn a_target_is_checked_although_nothing_strikes_it() {
    let second = (sec(1), sec(1));
    for (from, to, (on, off)) in
        [(sec(5), sec(5), second), (sec(6), sec(5), second), (sec(1), sec(5), (sec(0), sec(0)))]
    {
        let run = |target| {
            let faults = Faults::new().flapping(from, to, target, Fault::Crash, on, off);
            let scenario = Scenario::new("flapping", sec(10)).faults(faults);
            scenario.run(|world| world.server(Server::new("database", ms(1))))
        };
        let SimError::Invalid(error) = run("databse").unwrap_err() else { panic!("a target") };
        assert_eq!((error.field(), error.value()), ("target", "databse"));
        assert_eq!(run("database").unwrap().faults(), [], "no effect");
    }
}

#[test]
fn the_kind_of_a_fault_tells_a_link_from_a_station_of_its_name() {
    let run = |fault| {
        let scenario = Scenario::new("names", sec(10)).load(Load::even(10.0));
        let scenario = scenario.faults(Faults::new().at(sec(2), sec(2), "db", fault));
        let outcome = scenario.run(|world| {
            let station = world.server(Server::new("db", ms(1)))?;
            Ok(world.link(Link::new("db"))?.layer(station))
        });
        let outcome = outcome.unwrap();
        (outcome.station("db").unwrap().down, outcome.attempts(), outcome.unfinished())
    };
    assert_eq!(run(Fault::Crash), (20, 99, 0));
    assert_eq!(run(Fault::Partition), (0, 79, 20));
}

#[test]
fn every_node_of_a_name_is_struck() {
    let scenario = Scenario::new("nodes", sec(10)).load(Load::even(10.0));
    let scenario = scenario.faults(Faults::new().at(sec(2), sec(2), "node", Fault::Skew(1_000)));
    let clocks = Arc::new(Mutex::new(Vec::new()));
    let kept = clocks.clone();
    let ahead = Arc::new(Mutex::new(Vec::new()));
    let seen = ahead.clone();
    let outcome = scenario.run(move |world| {
        *kept.lock().unwrap() = vec![world.node("node"), world.node("node")];
        let (world_clock, clocks) = (world.clock(), kept.clone());
        world.gauge("ahead", move || {
            let now = world_clock.unix();
            let is_ahead = |clock: &buttress::Clock| clock.unix() > now;
            seen.lock()
                .unwrap()
                .push(clocks.lock().unwrap().iter().filter(|c| is_ahead(c)).count());
            0.0
        });
        world.server(Server::new("db", ms(1)))
    });
    outcome.unwrap();
    let ahead = ahead.lock().unwrap();
    assert!(ahead.contains(&2) && !ahead.contains(&1), "{ahead:?}");
}
