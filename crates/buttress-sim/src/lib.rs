//! Simulation for [`buttress`]: the layers and orchestrators that run in production, under a virtual clock, with
//! services, loads and faults that are scripted, and every number that says how it went.
//!
//! Nothing here is a model of a layer. The stack that a scenario builds is the one you deploy; what is simulated
//! is the time, the callers, the network and the service at the other end. A run of ten minutes takes a second or
//! so, is exact to the nanosecond, and is the same every time for the same seed.
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
//! // Two seconds of silence, and the retries keep the database down for good.
//! assert_eq!(without.ended_in(), PhaseKind::Metastable);
//! assert_eq!(with.ended_in(), PhaseKind::Stable);
//! let report = Report::new("Retries").add(without.named("no budget")).add(with.named("budget"));
//! println!("{}", report.to_text()); // and to_html, to_json, to_csv
//! # Ok(())
//! # }
//! ```
//!
//! # What is where
//!
//! | you want | look at |
//! |---|---|
//! | a run | [`Scenario`], and the [`World`] that its stack is built in |
//! | requests | [`Load`], [`Rate`] |
//! | services, and what they suffer | [`Server`], [`Queue`], [`Distribution`], [`Link`], [`Faults`] |
//! | numbers | [`Outcome`], [`Window`], [`Histogram`], [`Phase`] |
//! | something to look at | [`Report`] |
//! | many runs | [`sweep`], [`Interval`], [`compare`] |
//! | the same run again | [`check_determinism`], [`explore`], [`Outcome::trace_hash`] |
//! | tasks without a scenario | [`Executor`], [`tokio_engine`] |
//! | tests of stores and orchestrators | [`crash`], [`scripted`], [`conformance`] |
//! | gateway, idempotency, outbox, saga, sidecar | [`guide::microservices`] |
//!
//! # What a stack must do
//!
//! Every part of it takes its time from [`World::clock`], its chance from [`World::rng`], and starts its tasks
//! through [`World::spawner`]. [`check_determinism`] finds what does not, and names the first event that was
//! different.
//!
//! # What is measured
//!
//! Each request that ends within the run ends in exactly one [`Cause`]. The end of the run cuts the others short:
//! [`Outcome::unfinished`] says how many, and no share counts them. Attempts are calls that reached
//! the target station. Windows count requests where they end; totals count them where they began, from the end of
//! the warm-up on. Memory depends on the number of windows and of requests under way at once, not on how many
//! requests there are.

mod compare;
pub mod conformance;
pub mod crash;
mod distribution;
mod executor;
mod fault;
pub mod guide;
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
pub use watch::Watch;
pub use world::World;
