//! Tests of the public API: a module per pattern, the contract of every layer, combinations of
//! layers, and the structure of the sources.
// The helpers of a test fail by panicking, as the tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod aggregate;
mod architecture;
mod axum_routes;
mod balance;
mod body_end;
mod boxed;
mod bulkhead;
mod chains;
mod circuit_breaker;
mod composition;
mod conformance;
mod context;
mod contract;
mod crash_sweep;
mod events;
mod fallback;
mod gateway;
mod health;
mod idempotency;
mod idempotency_key;
mod in_tasks;
mod keyed;
mod leaked;
mod limiters;
mod observability;
mod outbox;
mod polled_again;
mod rate_limit;
mod registry;
mod retry;
mod rules_in_force;
mod runtimes;
mod saga;
mod shadow;
mod sidecar;
mod split;
mod status;
mod support;
mod threads;
mod time_limit;
