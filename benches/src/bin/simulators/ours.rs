//! The simulation on the engines of buttress-sim.

use std::time::Duration;

use buttress::InvalidConfig;
use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress_sim::{Distribution, Engine, Link, Load, Outcome, Scenario, Server, SimError, World};
use tower::{Layer, ServiceBuilder};

use crate::{Done, RATE, WORK};

fn scenario(requests: u64, engine: Engine) -> Scenario {
    let duration = Duration::from_secs_f64(requests as f64 / RATE);
    Scenario::new("speed", duration).engine(engine).load(Load::poisson(RATE))
}

fn server() -> Server {
    Server::new("server", Distribution::exponential(WORK))
}

pub(crate) fn open_loop(requests: u64, engine: Engine) -> Done {
    done(scenario(requests, engine).run(|world| world.server(server())))
}

pub(crate) fn four_layers(requests: u64, engine: Engine) -> Done {
    let outcome = scenario(requests, engine).run(|world| {
        let Layers { limiter, breaker, bulkhead, limit } = layers(world)?;
        Ok(ServiceBuilder::new()
            .layer(limiter)
            .layer(breaker)
            .layer(bulkhead)
            .layer(limit)
            .service(world.server(server())?))
    });
    done(outcome)
}

/// A network without delay in front of the server.
pub(crate) fn over_a_link(requests: u64, engine: Engine) -> Done {
    let outcome = scenario(requests, engine)
        .run(|world| Ok(world.link(Link::new("network"))?.layer(world.server(server())?)));
    done(outcome)
}

fn done(outcome: Result<Outcome, SimError>) -> Done {
    match outcome {
        Ok(outcome) => (outcome.requests(), outcome.latency().mean()),
        Err(error) => unreachable!("{error}"),
    }
}

struct Layers {
    limiter: RateLimitLayer,
    breaker: CircuitBreakerLayer,
    bulkhead: BulkheadLayer,
    limit: TimeLimitLayer,
}

fn layers(world: &World) -> Result<Layers, InvalidConfig> {
    let (clock, watch) = (world.clock(), world.observer());
    let limiter =
        rate_limit::Config::new().max_tokens(10_000).refill(10_000, Duration::from_secs(1));
    let breaker = circuit_breaker::Config::new();
    let bulkhead = bulkhead::Config::new().max_concurrent(1000);
    let limit = time_limit::Config::new(Duration::from_secs(1));
    Ok(Layers {
        limiter: RateLimitLayer::new(limiter.clock(clock.clone()).observer(watch.clone()))?,
        breaker: CircuitBreakerLayer::new(breaker.clock(clock.clone()).observer(watch.clone()))?,
        bulkhead: BulkheadLayer::new(bulkhead.clock(clock.clone()).observer(watch.clone()))?,
        limit: TimeLimitLayer::new(limit.clock(clock).observer(watch))?,
    })
}
