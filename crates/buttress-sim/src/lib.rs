//! Simulation for `buttress`.

mod compare;
pub mod conformance;
pub mod crash;
mod distribution;
mod executor;
mod fault;
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
mod server;
mod sweep;
pub mod tokio_engine;
mod world;

pub use compare::{Compared, Comparison, compare};
pub use distribution::Distribution;
pub use executor::{Executor, Named, Stuck, named};
pub use fault::{Fault, Faults};
pub use link::{Link, LinkFuture, LinkLayer, Linked};
pub use load::{Load, Rate, Request};
pub use measure::{
    Band, Cause, Ends, Event, Gauge, Histogram, Phase, PhaseKind, Recovery, StationWindow, What,
    Window,
};
pub use outcome::{FaultSpan, Outcome};
pub use output::Report;
pub use replay::{Diverged, Failed, Violation, check_determinism, explore};
pub use rng::Seed;
pub use scenario::{Engine, Scenario, SimError};
pub use server::{
    Failure, Leave, Load as ServerLoad, Queue, Served, Server, ServerError, Station, StationFuture,
    StationStats,
};
pub use sweep::{Interval, sweep};
pub use world::{Watch, World};
