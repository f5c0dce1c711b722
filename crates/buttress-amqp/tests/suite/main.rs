//! Tests with a real RabbitMQ.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "fixtures fail as the tests do")]
#![allow(clippy::indexing_slicing, clippy::panic, reason = "fixtures fail as the tests do")]

mod broker;
mod conformance;
mod dead;
mod faults;
mod foreign;
mod lost;
mod publisher;
mod server;
mod topology;
mod wire;
mod world;
