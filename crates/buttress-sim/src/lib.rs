//! Simulation for [`buttress`]: the production layers and orchestrators under a virtual clock, with
//! scripted services, loads and faults, and exact measurements.
//!
//! The layers are not models. The stack that a scenario builds is the stack that you deploy. The
//! simulation replaces the time, the callers, the network and the service at the other end. A run
//! of ten minutes takes about a second, is exact to the nanosecond, and is the same every time for
//! the same seed.
//!
//! ```
//! use std::time::Duration;
//! use buttress::retry::{Budget, Config, RetryLayer};
//! use buttress::time_limit::{self, TimeLimitLayer};
//! use buttress_sim::{Distribution, Fault, Faults, Load, PhaseKind, Report, Scenario, Server};
//! use tower::ServiceBuilder;
//!
//! # fn main() -> Result<(), buttress_sim::SimError> {
//! let (ms, sec) = (Duration::from_millis, Duration::from_secs);
//! let scenario = Scenario::new("checkout", sec(120))
//!     .load(Load::poisson(80.0))
//!     .faults(Faults::new().at(sec(30), sec(2), "database", Fault::Pause));
//! let run = |budget: Option<Budget>| {
//!     scenario.run(|world| {
//!         let work = Distribution::exponential(ms(20));
//!         let database = world.server(Server::new("database", work).servers(2))?;
//!         let limit = time_limit::Config::new(ms(500)).clock(world.clock()).observer(world.observer());
//!         let mut retry = Config::new().clock(world.clock()).observer(world.observer());
//!         if let Some(budget) = budget {
//!             retry = retry.budget(budget);
//!         }
//!         Ok(ServiceBuilder::new()
//!             .layer(RetryLayer::new(retry.rng(world.rng("jitter")))?)
//!             .layer(TimeLimitLayer::new(limit)?)
//!             .service(database))
//!     })
//! };
//! let (without, with) = (run(None)?, run(Some(Budget::new(0.1, 1)?))?);
//! // A pause of two seconds, and the retries keep the database down permanently.
//! assert_eq!(without.ended_in(), PhaseKind::Metastable);
//! assert_eq!(with.ended_in(), PhaseKind::Stable);
//! let report = Report::new("Retries").add(without.named("no budget")).add(with.named("budget"));
//! println!("{}", report.to_text()); // and to_html, to_json, to_csv
//! # Ok(())
//! # }
//! ```
//!
//! # Overview
//!
//! | topic | types |
//! |---|---|
//! | a run | [`Scenario`], and the [`World`] of its stack |
//! | requests | [`Load`], [`Rate`] |
//! | services and their faults | [`Server`], [`Queue`], [`Distribution`], [`Link`], [`Faults`] |
//! | numbers | [`Outcome`], [`Window`], [`Histogram`], [`Phase`] |
//! | tables and charts | [`Report`] |
//! | many runs | [`sweep`], [`Interval`], [`compare`] |
//! | repeating a run exactly | [`check_determinism`], [`explore`], [`Outcome::trace_hash`] |
//! | tasks without a scenario | [`Executor`], [`tokio_engine`] |
//! | tests of stores and orchestrators | [`crash`], [`hooked`], [`scripted`], [`conformance`] |
//! | faults at the steps of sagas and in stores | [`inject`], [`guide::testing_sagas`] |
//! | gateway, idempotency, outbox, saga, sidecar | [`guide::microservices`] |
//!
//! # Requirements on a stack
//!
//! Every part of a stack takes three things from the [`World`]. A forgotten part shows as follows:
//!
//! | setter | without it |
//! |---|---|
//! | `.clock(world.clock())` | The run returns [`SimError::Invalid`], which names the layer. |
//! | `.rng(world.rng("jitter"))` | Each run has other numbers. [`check_determinism`] names the first event that differs. |
//! | `.spawner(world.spawner())` | The run panics. With [`Engine::Tokio`] the default spawner is right. |
//!
//! A layer without `.observer(world.observer())` gets an observer of the world, so that [`Outcome::retries`] and the
//! other numbers of layers count it.
//!
//! The run finds layers and stores that are made during [`Scenario::run`] on its thread: in `build`, or while requests
//! run. It cannot find these users of another clock:
//! - A part that was made before the run and moved into `build`. If the part waits, the run panics with a message that
//!   names the missing clock. If the part only reads the time, as a rate limiter that refuses, the outcome is wrong. Such a part
//!   has no observer of the world either.
//! - Your own code, if it reads the time of the system or of tokio.
//! - Parts whose clock is set after they are made: `Events` and `Repository` of `buttress-durable`, and the layers of
//!   `buttress-http`.
//! - Runs of [`Executor`] and [`tokio_engine::Runtime`] without a scenario.
//!
//! # Measurements
//!
//! Each request that ends within the run has exactly one [`Cause`]. The end of the run interrupts
//! the other requests: [`Outcome::unfinished`] is their number, and no share counts them. Attempts
//! are calls that reached the target station. Windows count requests where they end. Totals count
//! requests that began after the warm-up. Memory depends on the number of windows and of concurrent
//! requests. It does not depend on the number of requests.

mod compare;
pub mod conformance;
pub mod crash;
mod distribution;
mod ended;
mod executor;
mod fault;
pub mod guide;
pub mod hooked;
pub mod inject;
mod link;
mod load;
mod math;
mod measure;
mod outcome;
mod output;
mod replay;
mod rng;
mod scenario;
pub mod scripted;
#[cfg(feature = "serde")]
mod seconds;
mod server;
mod sweep;
mod tcp_proxy;
pub mod tokio_engine;
mod watch;
mod world;

pub use compare::{Compared, Comparison, compare};
pub use distribution::Distribution;
pub use executor::{Executor, Named, Stuck, named};
pub use fault::{Fault, Faults};
pub use link::{Link, LinkFuture, LinkLayer, Linked};
pub use load::{Load, Rate, Request};
pub use measure::{
    Band, Cause, Ends, Event, Gauge, Histogram, Phase, PhaseKind, Recovery, StationWindow, Trigger,
    What, Window,
};
pub use outcome::{FaultSpan, Outcome};
pub use output::Report;
pub use replay::{Diverged, Failed, Violation, check_determinism, explore};
pub use rng::Seed;
pub use scenario::{Engine, NoRuntime, Scenario, SimError};
pub use server::{
    Failure, Leave, Load as ServerLoad, Queue, Served, Server, ServerError, Station, StationFuture,
    StationStats,
};
pub use sweep::{Interval, sweep};
pub use tcp_proxy::TcpProxy;
pub use watch::Watch;
pub use world::World;
