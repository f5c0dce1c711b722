//! Services under test: finite servers with a queue, and their faults.
//!
//! A [`Server`] describes a station of queueing theory. It has a number of servers, a queue with a
//! discipline and a bound, and a distribution of service times.
//! [`World::server`](crate::World::server) makes it a [`Station`], a tower service for the layers
//! under test.

mod config;
mod core;
mod failure;
mod future;
mod job;
mod roll;
mod service;
mod state;
mod stats;
mod tally;
mod wait_queue;

pub use config::{Leave, Load, Queue, Server};
pub use failure::{Failure, ServerError};
pub use future::StationFuture;
pub use service::{Served, Station};
pub use stats::StationStats;

pub(crate) use core::Core;
