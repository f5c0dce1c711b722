//! Layers in every order: each layer keeps its guarantee in each order.

use std::time::Duration;

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::retry::{self, Backoff, RetryLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{CircuitState, InvalidConfig};
use buttress_sim::{
    Cause, Distribution, Failure, Load, Outcome, Request, Scenario, Served, Server, World,
};
use tower::Layer;
use tower::util::BoxCloneService;

use crate::support::{arrivals, ms, sec};

type Stack = BoxCloneService<Request, Served, Failure>;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Retry,
    TimeLimit,
    Breaker,
    Bulkhead,
    Limiter,
}

const ALL: [Kind; 5] = [Kind::Retry, Kind::TimeLimit, Kind::Breaker, Kind::Bulkhead, Kind::Limiter];
const LIMIT: Duration = ms(20);

/// Returns every order of `kinds`, outermost first.
fn orders(kinds: &[Kind]) -> Vec<Vec<Kind>> {
    if kinds.is_empty() {
        return vec![Vec::new()];
    }
    let first = |n: usize| {
        let rest: Vec<Kind> = kinds.iter().copied().filter(|kind| *kind != kinds[n]).collect();
        orders(&rest).into_iter().map(move |order| [&[kinds[n]], &order[..]].concat())
    };
    (0..kinds.len()).flat_map(first).collect()
}

fn around(kind: Kind, inner: Stack, world: &World) -> Result<Stack, InvalidConfig> {
    let (clock, watch) = (world.clock(), world.observer());
    Ok(match kind {
        Kind::Retry => {
            let config = retry::Config::new().attempts(2).backoff(Backoff::fixed(ms(3)));
            BoxCloneService::new(RetryLayer::new(config.clock(clock).observer(watch))?.layer(inner))
        }
        Kind::TimeLimit => {
            let config = time_limit::Config::new(LIMIT).clock(clock).observer(watch);
            BoxCloneService::new(TimeLimitLayer::new(config)?.layer(inner))
        }
        Kind::Breaker => {
            let config = circuit_breaker::Config::new().consecutive_failures(3).open_for(ms(100));
            let config = config.name("breaker").clock(clock).observer(watch);
            BoxCloneService::new(CircuitBreakerLayer::new(config)?.layer(inner))
        }
        Kind::Bulkhead => {
            let config = bulkhead::Config::new().max_concurrent(4).clock(clock).observer(watch);
            let layer = BulkheadLayer::new(config)?;
            let handle = layer.handle();
            world.invariant("at most four", move |_| match handle.stats().active {
                0..=4 => Ok(()),
                n => Err(format!("{n} concurrently")),
            });
            BoxCloneService::new(layer.layer(inner))
        }
        Kind::Limiter => {
            let config = rate_limit::Config::new().max_tokens(30).refill(240, sec(1));
            let config = config.count_calls(true).clock(clock).observer(watch);
            let layer = RateLimitLayer::new(config)?;
            let (handle, time) = (layer.handle(), world.time().clone());
            world.invariant("a burst and the rate", move |_| {
                let most = 30.0 + 240.0 * time.elapsed().as_secs_f64();
                let admitted = handle.stats().admitted.unwrap_or_default();
                if admitted as f64 <= most { Ok(()) } else { Err(format!("{admitted} of {most}")) }
            });
            BoxCloneService::new(layer.layer(inner))
        }
    })
}

fn run(order: &[Kind]) -> Outcome {
    let scenario = Scenario::new("orders", sec(4)).load(Load::poisson(300.0)).keep_events(true);
    let outcome = scenario.run(|world| {
        let work = Distribution::exponential(ms(9));
        let server = Server::new("server", work).servers(u32::MAX).errors(0.2);
        let server = BoxCloneService::new(world.server(server)?);
        order.iter().rev().try_fold(server, |inner, kind| around(*kind, inner, world))
    });
    outcome.unwrap()
}

#[test]
fn each_layer_keeps_its_promise_in_every_order() {
    let orders = orders(&ALL);
    assert_eq!(orders.len(), 120);
    let mut seen = [0u64; 7];
    for order in orders {
        let outcome = run(&order);
        assert_eq!(outcome.violations(), [], "{order:?}");
        assert_eq!(outcome.ends().all() + outcome.unfinished(), outcome.requests(), "{order:?}");
        // No request hangs: the last few are in flight, and all others have ended.
        assert!(outcome.unfinished() <= 12, "{order:?}: {}", outcome.unfinished());
        let longest = outcome.latency().max();
        match order[0] {
            Kind::TimeLimit => assert!(longest <= LIMIT, "{order:?}: {longest:?}"),
            // Only the retry waits: twice the time limit of an attempt, and the wait.
            _ => assert!(longest <= LIMIT * 2 + ms(3), "{order:?}: {longest:?}"),
        }
        // The service receives requests and retries, except those that a layer refuses.
        assert!(outcome.attempts() <= outcome.requests() + outcome.retries(), "{order:?}");
        assert!(outcome.retries() > 50, "{order:?}: {}", outcome.retries());
        if order[4] == Kind::Breaker {
            let open = |at: &Duration| outcome.bands()[0].state_at(*at) == CircuitState::Open;
            let meanwhile = arrivals(&outcome, "server").iter().filter(|at| open(at)).count();
            assert_eq!(meanwhile, 0, "{order:?}");
        }
        for (sum, cause) in seen.iter_mut().zip(Cause::ALL) {
            *sum += outcome.ends().of(cause);
        }
    }
    // No caller leaves here, so no request is abandoned.
    let happened = seen.iter().zip(Cause::ALL).filter(|(_, cause)| *cause != Cause::Abandoned);
    assert!(happened.clone().count() == 6 && happened.clone().all(|(n, _)| *n > 100), "{seen:?}");
}
