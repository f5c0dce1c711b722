//! The production sidecar in front of a scripted service: when it retries, when its circuit opens
//! and closes, how many tokens its limiter takes, and that every request is in one number.

use std::time::Duration;

use buttress::retry::{Backoff, Jitter};
use buttress::sidecar::{Config, Handle, SidecarLayer, Stats};
use buttress::{CircuitState, InvalidConfig, circuit_breaker, rate_limit, retry};
use buttress_sim::{
    Cause, Distribution, Fault, Faults, Load, Outcome, Queue, Scenario, Server, World,
    check_determinism,
};
use tower::Layer;

use crate::support::{answers, arrivals, ms, sec, share_agrees_with};

/// Four attempts, with waits of 100, 200 and 400 ms.
fn retries() -> retry::Config {
    let backoff = Backoff::exponential(ms(100)).jitter(Jitter::None);
    retry::Config::new().attempts(4).backoff(backoff)
}

/// Five failures in a row open the circuit for 30 s, two successes close it.
fn breaker() -> circuit_breaker::Config {
    circuit_breaker::Config::new().consecutive_failures(5).open_for(sec(30)).successes_to_close(2)
}

fn config(world: &World) -> Config {
    let config = Config::new().name("client").clock(world.clock()).observer(world.observer());
    config.retry(retries()).circuit_breaker(breaker())
}

fn run(scenario: &Scenario, build: impl Fn(&World) -> (Config, Server)) -> (Outcome, Stats) {
    let mut seen: Option<Handle> = None;
    let outcome = scenario.run(|world| {
        let (config, server) = build(world);
        let layer = SidecarLayer::new(config)?;
        let (handle, tokens, retry) = (layer.handle(), layer.handle(), layer.handle());
        world.gauge("balance", move || {
            retry.retry().balance().map_or(0.0, |balance| balance as f64)
        });
        world.invariant("no more have ended than begun", move |_| adds_up(&handle.stats(), false));
        world.gauge("tokens", move || {
            tokens.rate_limit().map_or(0.0, |limit| limit.available().into())
        });
        seen = Some(layer.handle());
        Ok(layer.layer(world.server(server)?))
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.violations(), []);
    let stats = seen.unwrap().stats();
    adds_up(&stats, true).unwrap();
    // Of the planned retries, those that were stopped before their attempt are counted separately.
    let decided = stats.retries + stats.retries_not_made;
    assert_eq!((stats.requests, decided), (outcome.requests(), outcome.retries()));
    // Each request is in the number of the cause that its caller got, or was interrupted by the end
    // of the run.
    let counted = [
        stats.succeeded,
        stats.failed + stats.ignored,
        stats.timed_out,
        stats.rate_limited,
        stats.circuit_open,
        0,
        stats.abandoned - outcome.unfinished(),
    ];
    assert_eq!(Cause::ALL.map(|cause| outcome.ends().of(cause)), counted);
    (outcome, stats)
}

fn adds_up(stats: &Stats, all: bool) -> Result<(), String> {
    let ended = stats.succeeded + stats.failed + stats.ignored + stats.timed_out;
    let ended = ended + stats.rate_limited + stats.circuit_open + stats.abandoned;
    let right = if all { ended == stats.requests } else { ended <= stats.requests };
    if right { Ok(()) } else { Err(format!("{stats:?}")) }
}

fn at_the_server(outcome: &Outcome) -> u64 {
    outcome.station("server").unwrap().arrived
}

#[test]
fn attempts_begin_and_end_at_exact_instants() {
    let scenario = Scenario::new("attempts", sec(30)).load(Load::trace([sec(1)])).keep_events(true);
    // 5 s per attempt, and the waits between.
    let (outcome, stats) =
        run(&scenario, |world| (config(world), Server::new("server", sec(60)).servers(u32::MAX)));
    assert_eq!(arrivals(&outcome, "server"), [1_000, 6_100, 11_300, 16_700].map(ms));
    assert_eq!(answers(&outcome), [(Cause::Timeout, ms(20_700))]);
    assert_eq!((stats.retries, stats.timed_out), (3, 1));
    // An error comes after 3 ms.
    let (outcome, stats) =
        run(&scenario, |world| (config(world), Server::new("server", ms(3)).errors(1.0)));
    assert_eq!(arrivals(&outcome, "server"), [1_000, 1_103, 1_306, 1_709].map(ms));
    assert_eq!(answers(&outcome), [(Cause::Error, ms(712))]);
    assert_eq!((stats.retries, stats.failed), (3, 1));
    // A limit to the nanosecond, and an answer at the exact instant.
    let limit = Duration::from_nanos(200_000_001);
    for (work, answer) in
        [(limit, (Cause::Ok, limit)), (limit * 2, (Cause::Timeout, limit * 4 + ms(700)))]
    {
        let (outcome, _) = run(&scenario, |world| {
            (config(world).time_limit(limit), Server::new("server", work).servers(u32::MAX))
        });
        assert_eq!(answers(&outcome), [answer]);
    }
}

/// Sends a request every 97 ms, so that none coincides with a retry.
fn every_97_ms(until: Duration) -> Vec<Duration> {
    (1..).map(|n| ms(97 * n)).take_while(|at| *at < until).collect()
}

#[test]
fn the_circuit_opens_with_the_fifth_exhausted_request_and_closes_with_the_second_success() {
    let times = every_97_ms(sec(90));
    // The requests that find the service down, including the probe after 30 s if the service is
    // down that long.
    let run = |lasting: Duration| {
        let scenario = Scenario::new("circuit", sec(100))
            .load(Load::trace(times.clone()))
            .faults(Faults::new().at(ms(10_005), lasting, "server", Fault::Crash));
        run(&scenario, |world| (config(world), Server::new("server", ms(1)).servers(u32::MAX)))
    };
    let next = |at: Duration| *times.iter().find(|time| **time >= at).unwrap();
    let exhausted = ms(100 + 200 + 400);
    let first = times.iter().position(|time| *time >= ms(10_005)).unwrap();
    let opens = times[first + 4] + exhausted;
    let probe = next(opens + sec(30));
    use CircuitState::{Closed, HalfOpen, Open};

    let (outcome, stats) = run(sec(20));
    let closes = next(probe + ms(1)) + ms(1);
    let expected = [(sec(0), Closed), (opens, Open), (probe, HalfOpen), (closes, Closed)];
    assert_eq!(outcome.bands()[0].states, expected);
    // Requests that began after the fifth, and were stopped before a later attempt, were refused
    // too.
    let down = times.iter().filter(|at| (ms(10_005)..probe).contains(*at)).count() as u64;
    assert_eq!((stats.failed, stats.circuit_open), (5, down - 5));
    assert_eq!(stats.succeeded, stats.requests - down);

    // All attempts of the first probe fail, and it opens the circuit again.
    let (outcome, stats) = run(sec(40));
    let again = probe + exhausted;
    let second = next(again + sec(30));
    let closes = next(second + ms(1)) + ms(1);
    let expected = [
        (sec(0), Closed),
        (opens, Open),
        (probe, HalfOpen),
        (again, Open),
        (second, HalfOpen),
        (closes, Closed),
    ];
    assert_eq!(outcome.bands()[0].states, expected);
    assert_eq!(stats.failed, 6);
    // 20 attempts of the five, 3 of each call in flight, and 4 of the probe.
    let server = outcome.station("server").unwrap();
    assert_eq!(server.down + server.completed, server.arrived);
    assert!((20 + 4..20 + 4 + 3 * 8).contains(&server.down), "{}", server.down);
}

#[test]
fn a_request_takes_one_token_however_many_attempts_it_takes() {
    // 200 per second for 20 s. The limiter admits a burst of 20 and then 100 per second.
    let times = (1..=4_000).map(|n| ms(5 * n));
    let scenario = Scenario::new("tokens", sec(25)).load(Load::trace(times));
    let (outcome, stats) = run(&scenario, |world| {
        let bucket = rate_limit::Config::new().max_tokens(20).refill(100, sec(1));
        let server = Server::new("server", ms(2)).servers(u32::MAX).errors(0.3);
        let never = circuit_breaker::Config::new().consecutive_failures(u32::MAX);
        (config(world).rate_limit(bucket).circuit_breaker(never), server)
    });
    // Full at 5 ms, and 1999.5 tokens came until the last request at 20 s.
    assert_eq!(stats.requests - stats.rate_limited, 20 + 1_999);
    let admitted = 20 + 1_999;
    share_agrees_with(stats.failed, admitted, 0.3f64.powi(4), "four attempts failed");
    let attempts = 1.0 + 0.3 + 0.09 + 0.027;
    let found = at_the_server(&outcome) as f64 / admitted as f64;
    assert!((found - attempts).abs() < 0.06, "{found} attempts, should be {attempts}");
    let tokens = &outcome.gauge("tokens").unwrap().values;
    assert!(tokens.iter().all(|tokens| (0.0..=20.0).contains(tokens)));
    assert!(tokens.last() == Some(&20.0), "it is full again");
}

#[test]
fn a_budget_holds_the_retries_to_a_share_of_the_calls() {
    let scenario = Scenario::new("budget", sec(60)).load(Load::poisson(100.0));
    let (outcome, stats) = run(&scenario, |world| {
        let never = circuit_breaker::Config::new().consecutive_failures(u32::MAX);
        let budget = retry::Budget::new(0.1, 0).unwrap();
        let config = config(world).retry(retries().budget(budget)).circuit_breaker(never);
        (config, Server::new("server", ms(2)).servers(u32::MAX).errors(0.5))
    });
    let share = stats.retries as f64 / stats.requests as f64;
    assert!((0.08..=0.1).contains(&share), "{share}");
    // Half of the calls need a retry: the budget of each second is spent immediately.
    let balance = &outcome.gauge("balance").unwrap().values;
    assert!(balance.iter().all(|balance| *balance <= 12.0), "{balance:?}");
    assert!(balance.iter().filter(|balance| **balance == 0.0).count() > 80, "{balance:?}");
    let (outcome, _) = run(&scenario, |world| {
        let config = config(world).retry(retries().budget(retry::Budget::new(0.1, 0).unwrap()));
        (config, Server::new("server", ms(2)).servers(u32::MAX))
    });
    // No call needs a retry: a tenth of the calls of nine to ten seconds.
    let balance = &outcome.gauge("balance").unwrap().values;
    assert!(balance[30..].iter().all(|balance| (75.0..125.0).contains(balance)), "{balance:?}");
}

fn everything() -> Scenario {
    let faults = Faults::new()
        .at(sec(20), sec(2), "server", Fault::Pause)
        .at(sec(40), sec(10), "server", Fault::Errors(0.9))
        .flapping(sec(70), sec(80), "server", Fault::Crash, ms(500), ms(900));
    let load = Load::poisson(60.0).impatient(Distribution::exponential(sec(2)));
    Scenario::new("everything", sec(100)).load(load).faults(faults)
}

fn everything_in(world: &World) -> (Config, Server) {
    let bucket = rate_limit::Config::new().max_tokens(10).refill(65, sec(1));
    let config = config(world)
        .rate_limit(bucket)
        .circuit_breaker(breaker().open_for(sec(2)))
        .time_limit(ms(200))
        .retry(retry::Config::new().attempts(3).rng(world.rng("jitter")));
    let work = Distribution::exponential(ms(25));
    (config, Server::new("server", work).servers(2).queue(Queue::fifo().bound(50)).errors(0.05))
}

#[test]
fn every_request_is_in_exactly_one_number() {
    let (outcome, stats) = run(&everything(), everything_in);
    let all = [
        stats.succeeded,
        stats.failed,
        stats.timed_out,
        stats.rate_limited,
        stats.circuit_open,
        stats.abandoned,
    ];
    assert!(all.iter().all(|count| *count > 20), "{stats:?}");
    assert!(outcome.bands()[0].states.len() > 5);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let build = |world: &World| -> Result<_, InvalidConfig> {
        let (config, server) = everything_in(world);
        Ok(SidecarLayer::new(config)?.layer(world.server(server)?))
    };
    check_determinism(&everything(), build).unwrap();
}
