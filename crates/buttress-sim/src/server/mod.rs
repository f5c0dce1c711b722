//! Services under test: finite servers with a queue, and the faults they suffer.
//!
//! A [`Server`] describes a station of queueing theory: so many servers, a queue with a discipline and a
//! bound, a distribution of working times. [`World::server`](crate::World::server) makes it a
//! [`Station`], a tower service that layers go around.

mod config;
mod core;
mod failure;
mod future;
mod job;
mod line;
mod roll;
mod service;
mod state;
mod stats;
mod tally;

pub use config::{Leave, Load, Queue, Server};
pub use failure::{Failure, ServerError};
pub use future::StationFuture;
pub use service::{Served, Station};
pub use stats::StationStats;

pub(crate) use core::Core;
