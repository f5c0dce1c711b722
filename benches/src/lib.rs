//! What each layer of buttress costs, beside its peers on the same work in the same run.
//!
//! [`patterns`] says what is measured: a row for each path through each pattern, and the candidates
//! that offer it, all around the same trivial service. [`floors`] is the least code that keeps each
//! pattern's promise, to know how far from it everybody is. A [`Meter`](subject::Meter) goes through
//! all of them and measures one thing; there is one for each figure.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    missing_debug_implementations,
    reason = "a program for the developers of buttress: it may stop with a message, and it reads time"
)]

pub mod floors;
pub mod patterns;
pub mod subject;
pub mod workload;
