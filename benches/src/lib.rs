//! The cost of each layer of buttress and of its peers, for the same work in the same run.
//!
//! [`patterns`] defines the measurements: a row per path through each pattern, and the candidates
//! for it, all around the same trivial service. [`floors`] is the least code that keeps each
//! pattern's guarantee, as a reference, and [`peers`] are other libraries. A
//! [`Meter`](subject::Meter) visits all of them and measures one quantity; each has its own
//! program. [`probes`] measure the behaviour under load, and [`report`] makes tables of everything.
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
pub mod guarded;
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
