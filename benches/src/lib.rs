//! What each layer of buttress costs, beside its peers on the same work in the same run.
//!
//! [`patterns`] says what is measured: a row for each path through each pattern, and the candidates
//! that offer it, all around the same trivial service. [`floors`] is the least code that keeps each
//! pattern's promise, to know how far from it everybody is, and [`peers`] are the others. A
//! [`Meter`](subject::Meter) goes through all of them and measures one thing; there is a program for
//! each. [`probes`] are about behaviour under load, and [`report`] makes tables of everything.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    missing_docs,
    missing_debug_implementations,
    reason = "a program for the developers of buttress: it may stop with a message, and it reads time"
)]

pub mod durable;
pub mod filter;
pub mod floors;
pub mod held;
pub mod patterns;
pub mod peers;
pub mod per_request;
pub mod probes;
pub mod process;
pub mod report;
pub mod rounds;
pub mod row;
pub mod simulated;
pub mod smallest;
pub mod spread;
pub mod subject;
pub mod workload;
