//! The guarantees of limiters, retries and time limits, compared with a simulation.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::retry::{Backoff, Budget, Jitter, RetryLayer};
use buttress::time_limit::TimeLimitLayer;
use buttress::{rate_limit, retry, time_limit};
use buttress_sim::{Cause, Distribution, Load, Scenario, Server, ServerError, What};
use tower::{Layer, ServiceBuilder};

use crate::support::{Estimate, Run, SCALES, batches, ms, sec, us};

#[test]
fn a_time_limit_of_1200_microseconds_cuts_work_of_1800_at_exactly_1200() {
    let outcome = Scenario::new("exact", ms(20))
        .load(Load::trace([us(700), us(5_000)]))
        .keep_events(true)
        .run(|world| {
            let server = world.server(Server::new("slow", us(1800)).servers(2))?;
            let config = time_limit::Config::new(us(1200)).clock(world.clock());
            Ok(TimeLimitLayer::new(config)?.layer(server))
        })
        .unwrap();
    let events = outcome.events().unwrap();
    let at = |what: What| -> Vec<Duration> {
        events.iter().filter(|event| event.what == what).map(|event| event.at).collect()
    };
    assert_eq!(at(What::Began), [us(700), us(5_000)]);
    assert_eq!(at(What::Ended(Cause::Timeout)), [us(1_900), us(6_200)]);
    // The service does not notice it and continues.
    assert_eq!(at(What::JobFinished), [us(2_500), us(6_800)]);
    assert_eq!(outcome.station("slow").unwrap().orphaned, 2);
}

#[test]
fn an_answer_at_the_very_instant_of_the_limit_counts() {
    let outcome = Scenario::new("tie", ms(10))
        .load(Load::trace([us(1)]))
        .run(|world| {
            let server = world.server(Server::new("punctual", us(1200)))?;
            let config = time_limit::Config::new(us(1200)).clock(world.clock());
            Ok(TimeLimitLayer::new(config)?.layer(server))
        })
        .unwrap();
    assert_eq!(outcome.ends().of(Cause::Ok), 1);
}

#[test]
fn no_window_of_a_token_bucket_admits_more_than_its_size_and_its_rate() {
    let (burst, rate) = (20u32, 500u32);
    for scale in SCALES {
        // One second of the limiter is `scale` times 200 here.
        let second = scale * 200;
        let admitted = Arc::new(Mutex::new(Vec::new()));
        let log = admitted.clone();
        let load = f64::from(rate) / second.as_secs_f64() * 1.5;
        let outcome = Scenario::new("bucket", second * 20)
            .load(Load::poisson(load))
            .run(|world| {
                let config = rate_limit::Config::new().max_tokens(burst).refill(rate, second);
                let config = config.clock(world.clock());
                let server = world.server(Server::new("any", Duration::ZERO).servers(u32::MAX))?;
                world.invariant("log", move |event| {
                    if event.what == What::Ended(Cause::Ok) {
                        log.lock().unwrap().push(event.at.as_nanos() as f64);
                    }
                    Ok(())
                });
                Ok(rate_limit::RateLimitLayer::new(config)?.layer(server))
            })
            .unwrap();
        let admitted = admitted.lock().unwrap();
        assert!(outcome.ends().of(Cause::Limited) > 1000);
        // The bound between any two admissions. The limiter reaches the bound.
        let per_nano = f64::from(rate) / second.as_nanos() as f64;
        let level = |at: f64, n: usize| n as f64 - per_nano * at;
        let (mut lowest, mut most) = (f64::MAX, f64::MIN);
        for (n, at) in admitted.iter().enumerate() {
            lowest = lowest.min(level(*at, n));
            most = most.max(level(*at, n + 1) - lowest);
        }
        assert!(most <= f64::from(burst) + 1e-3, "{most} concurrently at {scale:?}");
        assert!(most > f64::from(burst) - 2.0, "{most} at {scale:?}");
        let whole = f64::from(burst) + per_nano * (second * 20).as_nanos() as f64;
        assert!(admitted.len() as f64 <= whole && admitted.len() as f64 > whole * 0.98);
    }
}

#[test]
fn retries_take_as_many_attempts_as_chance_says() {
    for scale in SCALES {
        let (failing, attempts) = (0.3f64, 4u32);
        let run = Run { mean: scale, servers: 1, busy: 0.2, requests: 20_000.0 };
        let outcome = run
            .scenario()
            .run(|world| {
                let server = world.server(run.server().servers(u32::MAX).errors(failing))?;
                let backoff = Backoff::exponential(scale).jitter(Jitter::Full);
                let config = retry::Config::new().attempts(attempts).backoff(backoff);
                let config =
                    config.clock(world.clock()).rng(world.rng("jitter")).observer(world.observer());
                Ok(RetryLayer::new(config)?.layer(server))
            })
            .unwrap();
        let expected = (0..attempts).map(|n| failing.powi(n as i32)).sum::<f64>();
        let of = |w: &buttress_sim::Window| w.stations[0].arrived as f64 / w.offered as f64;
        let what = format!("attempts at {scale:?}");
        Estimate::of(batches(&outcome).iter().map(of)).agrees_with(expected, 0.02, &what);
        let failed =
            batches(&outcome).iter().map(|w| w.ends.of(Cause::Error) as f64 / w.ends.all() as f64);
        Estimate::of(failed).agrees_with(failing.powi(attempts as i32), 0.2, "failed finally");
    }
}

#[test]
fn a_retry_budget_bounds_what_a_dead_service_gets() {
    let share = 0.2;
    for scale in SCALES {
        // One second of the callers is `scale` times a thousand here: a hundred calls, and two
        // retries in addition.
        let second = scale * 1_000;
        let floor = (2.0 / second.as_secs_f64()).round() as u32;
        let scenario = Scenario::new("budget", second * 120)
            .window(second)
            .load(Load::poisson(100.0 / second.as_secs_f64()));
        let outcome = scenario.run(|world| {
            let server = world.server(Server::new("dead", scale).servers(u32::MAX).errors(1.0))?;
            let budget = Budget::with_window(share, floor, second * 5)?;
            let config =
                retry::Config::new().attempts(5).backoff(Backoff::fixed(scale * 10)).budget(budget);
            let config = config.clock(world.clock()).observer(world.observer());
            Ok(RetryLayer::new(config)?.layer(server))
        });
        let outcome = outcome.unwrap();
        assert_eq!(outcome.ends().of(Cause::Error) + outcome.unfinished(), outcome.requests());
        let windows = outcome.windows();
        let calls = |five: &[buttress_sim::Window]| five.iter().map(|w| w.offered).sum::<u64>();
        // The calls in the window of a retry's budget began up to one window earlier.
        let most = windows.windows(5).map(calls).max().unwrap();
        let free = f64::from(floor) * 5.0 * second.as_secs_f64();
        let bound = (share * most as f64 + free) * 1.1;
        for five in windows.windows(5) {
            let retries: u64 = five.iter().map(|w| w.retries).sum();
            assert!(retries as f64 <= bound, "{retries} of {} at {scale:?}", calls(five));
        }
        // The retries use the whole budget.
        let expected = 1.0 + share + free / 500.0;
        let amplification = outcome.amplification();
        let used = (expected * 0.96..=expected * 1.01).contains(&amplification);
        assert!(used, "{amplification}, should be {expected} at {scale:?}");
    }
}

#[test]
fn every_order_of_layers_composes() {
    use buttress::bulkhead::{self, BulkheadLayer};
    use buttress::circuit_breaker::{self, CircuitBreakerLayer};
    let slow = || Server::new("slow", Distribution::constant(ms(50))).servers(u32::MAX);
    let scenario = Scenario::new("orders", sec(10)).load(Load::even(100.0));
    // A time limit around a breaker around a slow server times out. The calls that it drops open
    // the circuit only if so configured.
    for dropped in [buttress::Outcome::Ignored, buttress::Outcome::Failure] {
        let outcome = scenario
            .run(|world| {
                let limit = time_limit::Config::new(ms(20)).clock(world.clock());
                let breaker =
                    circuit_breaker::Config::new().dropped_calls(dropped).clock(world.clock());
                Ok(ServiceBuilder::new()
                    .layer(TimeLimitLayer::new(limit)?)
                    .layer(CircuitBreakerLayer::new(breaker.observer(world.observer()))?)
                    .service(world.server(slow())?))
            })
            .unwrap();
        let (timeouts, open) = (outcome.ends().of(Cause::Timeout), outcome.ends().of(Cause::Open));
        assert_eq!(outcome.ends().of(Cause::Ok), 0);
        if dropped == buttress::Outcome::Ignored {
            assert_eq!((timeouts + outcome.unfinished(), open), (outcome.requests(), 0));
        } else {
            assert!(timeouts >= 5 && open > 900, "{timeouts} {open}");
        }
    }
    // A breaker around a time limit sees the timeouts.
    let outcome = scenario
        .run(|world| {
            let limit = time_limit::Config::new(ms(20)).clock(world.clock());
            let breaker =
                circuit_breaker::Config::new().clock(world.clock()).observer(world.observer());
            Ok(ServiceBuilder::new()
                .layer(CircuitBreakerLayer::new(breaker)?)
                .layer(TimeLimitLayer::new(limit)?)
                .service(world.server(slow())?))
        })
        .unwrap();
    // Even arrivals every 10 ms: at the time of the fifth timeout one more call is in flight.
    assert_eq!(outcome.ends().of(Cause::Timeout), 6);
    // A bulkhead around a breaker holds its limit at every event.
    let outcome = scenario
        .run(|world| {
            let bulkhead = bulkhead::Config::new().max_concurrent(3).clock(world.clock());
            let breaker = circuit_breaker::Config::new().clock(world.clock());
            let bulkhead = BulkheadLayer::new(bulkhead)?;
            let handle = bulkhead.handle();
            world.invariant("at most three", move |_| match handle.stats().active {
                0..=3 => Ok(()),
                n => Err(format!("{n} concurrently")),
            });
            Ok(ServiceBuilder::new()
                .layer(bulkhead)
                .layer(CircuitBreakerLayer::new(breaker)?)
                .service(world.server(slow())?))
        })
        .unwrap();
    assert_eq!(outcome.violations(), []);
    assert!(outcome.ends().of(Cause::Full) > 300 && outcome.ends().of(Cause::Ok) > 500);
    let full = buttress_sim::Failure::from(ServerError::Overloaded).to_string();
    assert_eq!(full, "the service is overloaded");
}
