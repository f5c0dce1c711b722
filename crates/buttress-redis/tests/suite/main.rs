//! Streams, limits and keys against a real Redis.
#![allow(clippy::disallowed_methods, reason = "a broker takes real time")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers fail as the tests do")]
#![allow(clippy::indexing_slicing, clippy::panic, reason = "helpers fail as the tests do")]

mod child;
mod conformance;
mod consumers;
mod faults;
mod keys;
mod kills;
mod limits;
mod publishing;
mod server;
mod topology;
