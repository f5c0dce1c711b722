//! Tests with a real NATS server.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers fail as the tests do")]
#![allow(clippy::indexing_slicing, clippy::panic, reason = "helpers fail as the tests do")]

mod broker;
mod conformance;
mod faults;
mod publisher;
mod received;
mod replaced;
mod server;
mod topology;
