//! The policies of the seven clients.

use std::time::Duration;

use buttress::InvalidConfig;
use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::rate_limit;
use buttress::retry::{self, Backoff, Budget, Jitter, RetryLayer};
use buttress::sidecar::{self, SidecarLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress_sim::{Distribution, Failure, Queue, Request, Served, Server, Station, World};
use tower::ServiceBuilder;
use tower::util::BoxCloneService;

pub(crate) const SERVICE: &str = "service";

const ATTEMPTS: u32 = 4;

/// The time limit of an attempt.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Policy {
    NoRetries,
    Retries,
    Jitter,
    Budget,
    Breaker,
    ConcurrencyLimit,
    Sidecar,
}

pub(crate) const POLICIES: [Policy; 7] = [
    Policy::NoRetries,
    Policy::Retries,
    Policy::Jitter,
    Policy::Budget,
    Policy::Breaker,
    Policy::ConcurrencyLimit,
    Policy::Sidecar,
];

type Stack = BoxCloneService<Request, Served, Failure>;

impl Policy {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoRetries => "no retries",
            Self::Retries => "retries",
            Self::Jitter => "retries with full jitter",
            Self::Budget => "retries with a budget",
            Self::Breaker => "circuit breaker",
            Self::ConcurrencyLimit => "concurrency limit",
            Self::Sidecar => "sidecar",
        }
    }

    /// Whether the service recovers with this policy after the pause. It does not with jitter
    /// alone.
    pub(crate) const fn recovers(self) -> bool {
        !matches!(self, Self::Retries | Self::Jitter)
    }

    pub(crate) fn stack(self, world: &World) -> Result<Stack, InvalidConfig> {
        let service = service(world)?;
        let limit = time_limit::Config::new(PATIENCE);
        let limited = ServiceBuilder::new()
            .layer(TimeLimitLayer::new(limit.clock(world.clock()).observer(world.observer()))?)
            .service(service.clone());
        Ok(match self {
            Self::NoRetries => BoxCloneService::new(limited),
            Self::Retries => BoxCloneService::new(
                ServiceBuilder::new().layer(retries(world, even())?).service(limited),
            ),
            Self::Jitter => BoxCloneService::new(
                ServiceBuilder::new().layer(retries(world, jittered())?).service(limited),
            ),
            Self::Budget => {
                // One retry for every ten calls, and at least three per second.
                let layer = retries(world, jittered().budget(Budget::new(0.1, 3)?))?;
                let handle = layer.handle();
                world.gauge("Retries left in the budget", move || {
                    handle.balance().map_or(0.0, |balance| balance as f64)
                });
                BoxCloneService::new(ServiceBuilder::new().layer(layer).service(limited))
            }
            Self::Breaker => {
                let config = circuit_breaker::Config::new()
                    .name("breaker")
                    .failure_rate(0.5)
                    .time_window(Duration::from_secs(2))
                    .min_calls(20)
                    .open_for(Duration::from_secs(5));
                let config = config.clock(world.clock()).observer(world.observer());
                BoxCloneService::new(
                    ServiceBuilder::new()
                        .layer(retries(world, jittered())?)
                        .layer(CircuitBreakerLayer::new(config)?)
                        .service(limited),
                )
            }
            Self::ConcurrencyLimit => {
                let config = bulkhead::Config::new().name("limit").max_concurrent(60);
                let config = config.clock(world.clock()).observer(world.observer());
                let bulkhead = BulkheadLayer::new(config)?;
                let handle = bulkhead.handle();
                world.gauge("Permits taken, of 60", move || f64::from(handle.stats().active));
                BoxCloneService::new(
                    ServiceBuilder::new()
                        .layer(retries(world, jittered())?)
                        .layer(bulkhead)
                        .service(limited),
                )
            }
            Self::Sidecar => {
                BoxCloneService::new(ServiceBuilder::new().layer(sidecar(world)?).service(service))
            }
        })
    }
}

/// Makes the service. Up to a thousand calls wait in its queue, and it serves calls whose client
/// has left.
fn service(world: &World) -> Result<Station, InvalidConfig> {
    let work = Distribution::exponential(Duration::from_millis(40));
    let server = Server::new(SERVICE, work).servers(20).queue(Queue::fifo().bound(1000));
    let service = world.server(server)?;
    let gauge = service.clone();
    world.gauge("Calls waiting at the service", move || f64::from(gauge.stats().waiting));
    Ok(service)
}

fn retries(world: &World, config: retry::Config) -> Result<RetryLayer, InvalidConfig> {
    let config = config.attempts(ATTEMPTS).clock(world.clock()).observer(world.observer());
    RetryLayer::new(config.name("retry").rng(world.rng("jitter")))
}

/// Waits of 100, 200 and 400 ms.
fn even() -> retry::Config {
    let backoff = Backoff::exponential(Duration::from_millis(100)).jitter(Jitter::None);
    retry::Config::new().backoff(backoff)
}

fn jittered() -> retry::Config {
    retry::Config::new().backoff(Backoff::exponential(Duration::from_millis(100)))
}

fn sidecar(world: &World) -> Result<SidecarLayer, InvalidConfig> {
    let limiter = rate_limit::Config::new().max_tokens(400).refill(400, Duration::from_secs(1));
    let breaker = circuit_breaker::Config::new()
        .failure_rate(0.5)
        .time_window(Duration::from_secs(2))
        .min_calls(20)
        .successes_to_close(2)
        .open_for(Duration::from_secs(5));
    let config = sidecar::Config::new()
        .name("sidecar")
        .rate_limit(limiter)
        .circuit_breaker(breaker)
        .time_limit(PATIENCE)
        .retry(jittered().attempts(ATTEMPTS).rng(world.rng("jitter")))
        .clock(world.clock())
        .observer(world.observer());
    let layer = SidecarLayer::new(config)?;
    let handle = layer.handle();
    world.gauge("Tokens of the limiter, of 400", move || {
        handle.rate_limit().map_or(0.0, |limiter| f64::from(limiter.available()))
    });
    Ok(layer)
}
