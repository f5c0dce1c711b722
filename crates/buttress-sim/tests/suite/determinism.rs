//! The same seed has the same outcome in every detail.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use buttress::retry::{Backoff, RetryLayer};
use buttress::sidecar::{self, SidecarLayer};
use buttress::{InvalidConfig, rate_limit, retry};
use buttress_sim::{
    Distribution, Diverged, Fault, Faults, Link, Load, Outcome, Queue, Rate, Report, Request,
    Scenario, Seed, Server, What, World, check_determinism, explore, sweep,
};
use tower::util::BoxCloneService;
use tower::{Layer, ServiceBuilder};

use crate::support::{ms, sec, us};

type Stack = BoxCloneService<Request, buttress_sim::Served, buttress_sim::Failure>;

/// A scenario with many kinds of events.
fn scenario(seed: u64) -> Scenario {
    let faults = Faults::new()
        .at(sec(5), sec(1), "db", Fault::Pause)
        .at(sec(8), sec(1), "wire", Fault::Loss(0.2))
        .flapping(sec(10), sec(14), "db", Fault::Errors(0.7), ms(500), ms(700))
        .at(sec(15), ms(300), "db", Fault::Crash);
    let load = Load::poisson(Rate::spike(150.0, 400.0, sec(2), sec(1)));
    Scenario::new("everything", sec(20))
        .seed(seed)
        .load(load.impatient(Distribution::uniform(ms(200), sec(2))))
        .faults(faults)
}

fn stack(world: &World) -> Result<Stack, InvalidConfig> {
    let work = Distribution::log_normal(ms(4), ms(60))?;
    let codel = Queue::codel(ms(20), ms(100)).bound(200);
    let db = world.server(Server::new("db", work).servers(2).queue(codel).errors(0.01))?;
    let waiting = db.clone();
    world.gauge("waiting", move || f64::from(waiting.stats().waiting));
    let config = sidecar::Config::new()
        .name("client")
        .rate_limit(rate_limit::Config::new().max_tokens(300).refill(300, sec(1)))
        .time_limit(ms(100))
        .retry(retry::Config::new().attempts(3).rng(world.rng("jitter")))
        .clock(world.clock())
        .observer(world.observer());
    let link = world.link(Link::new("wire").delay(Distribution::exponential(us(300))))?;
    let stack = ServiceBuilder::new().layer(SidecarLayer::new(config)?).layer(link).service(db);
    Ok(BoxCloneService::new(stack))
}

fn everything(seed: u64) -> Outcome {
    scenario(seed).run(stack).unwrap()
}

/// Hashes everything that a report contains.
fn bytes(outcome: Outcome) -> u64 {
    let report = Report::new("everything").add(outcome);
    let text = [report.to_html(), report.to_json(), report.to_csv(), report.to_text()].concat();
    Seed::new(0).child(&text).get()
}

#[test]
fn twice_in_one_process() {
    let (first, second) = (everything(1), everything(1));
    assert!(first.event_count() > 5_000);
    assert_eq!(first, second);
    assert_eq!(bytes(first), bytes(second));
    assert_ne!(everything(1).trace_hash(), everything(2).trace_hash());
}

#[test]
fn in_two_processes() {
    const CHILD: &str = "BUTTRESS_SIM_TEST_CHILD";
    let line =
        format!("bytes {:016x} trace {:016x}", bytes(everything(3)), everything(3).trace_hash());
    if std::env::var_os(CHILD).is_some() {
        println!("\n{line}");
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "determinism::in_two_processes", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let output = String::from_utf8(child.stdout).unwrap();
    assert!(output.lines().any(|other| other == line), "{line}\n{output}");
}

#[test]
fn a_sweep_on_one_and_on_two_threads() {
    let seeds: Vec<u64> = (0..6).collect();
    let [one, two] = [1, 2].map(|threads| sweep(&seeds, threads, |seed| everything(*seed)));
    assert_eq!(one, two);
    assert_eq!(
        one.into_iter().map(bytes).collect::<Vec<_>>(),
        two.into_iter().map(bytes).collect::<Vec<_>>()
    );
}

/// If these change, a code change has altered the events of a run or their order. If that is
/// intended, record the new values.
#[test]
fn the_traces_are_those_committed() {
    let short = |seed: u64| Scenario::new("short", sec(5)).seed(seed);
    let work = || Distribution::exponential(ms(5));
    let plain = short(1).run(|world| world.server(Server::new("server", work()))).unwrap();
    let full =
        short(1).full_trace(true).run(|world| world.server(Server::new("server", work()))).unwrap();
    let closed = short(2)
        .load(Load::closed(5, Distribution::exponential(ms(20))))
        .run(|world| world.server(Server::new("server", Distribution::log_normal(ms(3), ms(30))?)))
        .unwrap();
    let retried = short(3)
        .run(|world| {
            let config = retry::Config::new().backoff(Backoff::exponential(ms(10)));
            let config =
                config.rng(world.rng("jitter")).clock(world.clock()).observer(world.observer());
            Ok(RetryLayer::new(config)?
                .layer(world.server(Server::new("server", work()).errors(0.3))?))
        })
        .unwrap();
    let hashes = [plain, full, closed, retried, everything(7)].map(|outcome| outcome.trace_hash());
    let committed: [u64; 5] = [
        0xc443_9b9f_590f_8310,
        0x3533_51e8_7db7_693e,
        0x1438_d815_0dab_a3a1,
        0x1705_6e64_78c1_4178,
        0x43a6_f748_70ec_2196,
    ];
    assert_eq!(hashes, committed, "{hashes:#018x?}");
}

#[test]
fn a_source_outside_of_the_seed_is_found_and_named() {
    let same = check_determinism(&scenario(4), stack).unwrap();
    assert!(same.events().is_some_and(|events| events.len() as u64 == same.event_count()));
    let runs = AtomicU64::new(0);
    let differs = check_determinism(&Scenario::new("leak", sec(2)), |world| {
        // The second run is a microsecond slower from the start.
        let extra = us(runs.fetch_add(1, Ordering::SeqCst));
        world.server(Server::new("server", ms(1) + extra))
    });
    let Err(Diverged::At { number, first: Some(first), second: Some(second) }) = differs else {
        panic!("{differs:?}")
    };
    assert_eq!((first.what, second.what), (What::JobFinished, What::JobFinished), "event {number}");
    assert_eq!(second.at - first.at, us(1));
}

#[test]
fn a_failing_property_says_how_to_get_there() {
    let property = |seed: u64| {
        let outcome = Scenario::new("bound", sec(1)).seed(seed).run(|world| {
            let work = Distribution::exponential(ms(8));
            let server = world.server(Server::new("server", work))?;
            let station = server.clone();
            world.invariant("short queue", move |_| match station.stats().waiting {
                0..=4 => Ok(()),
                n => Err(format!("{n} wait")),
            });
            Ok(server)
        });
        outcome.map_err(|error| error.to_string())?.check()
    };
    let failed = explore(0..100, property).unwrap_err();
    let text = failed.to_string();
    assert!(text.contains("\"short queue\" does not hold: 5 wait, after event "), "{text}");
    let line =
        format!("reproduce: BUTTRESS_SIM_SEED={} cargo test -- --exact determinism::", failed.seed);
    assert!(text.contains(&line), "{text}");
    assert!(property(failed.seed).is_err(), "and it does");
}

#[test]
fn what_must_not_depend_on_ties_holds_for_any_order_of_them() {
    let run = |seed: u64| {
        // Even arrivals and constant work: all events are ties.
        Scenario::new("ties", ms(4_998))
            .seed(seed)
            .vary_ties(true)
            .full_trace(true)
            .load(Load::even(200.0))
            .run(|world| world.server(Server::new("server", ms(10)).servers(2)))
            .unwrap()
    };
    let ends: Vec<_> = (0..10).map(|seed| run(seed).ends().all()).collect();
    assert!(ends.iter().all(|all| *all == ends[0]), "{ends:?}");
    let orders: std::collections::BTreeSet<_> =
        (0..10).map(|seed| run(seed).trace_hash()).collect();
    assert!(orders.len() > 5, "the order is drawn");
}

#[test]
fn a_layer_more_does_not_shift_the_draws_of_the_others() {
    let arrivals = |extra: bool| {
        let outcome = Scenario::new("draws", sec(3))
            .keep_events(true)
            .run(|world| {
                if extra {
                    let _ = (
                        world.rng("new layer").next_u64(),
                        world.server(Server::new("new", ms(1)))?,
                    );
                }
                world.server(Server::new("server", Distribution::exponential(ms(3))))
            })
            .unwrap();
        let began = outcome.events().unwrap().iter().filter(|event| event.what == What::Began);
        let work = outcome.station("server").unwrap().busy;
        (began.map(|event| event.at).collect::<Vec<_>>(), work)
    };
    assert_eq!(arrivals(false), arrivals(true));
}
