//! Tests with the mock cluster of librdkafka, and with the broker of `BUTTRESS_KAFKA`.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers fail as the tests do")]
#![allow(clippy::indexing_slicing, clippy::panic, reason = "helpers fail as the tests do")]

mod broker;
mod child;
mod cluster;
mod conformance;
mod faults;
mod groups;
mod handled;
mod publishing;
mod rebalances;
mod topology;
