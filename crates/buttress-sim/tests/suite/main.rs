//! Tests of the simulator through its public API.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

mod balance;
mod determinism;
mod engines;
mod faults;
mod figures;
mod forgotten;
mod gateway;
mod idempotency;
mod limits;
mod metastable;
mod orders;
mod outbox;
mod permits;
mod phases;
mod queueing;
mod saga;
mod sidecar;
mod support;
mod ties;
