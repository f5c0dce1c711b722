//! A proxy between a client that writes bytes and backends that write bytes, all in memory.

mod admission;
mod balance;
mod bodies;
mod client;
mod context;
#[cfg(feature = "document")]
mod document;
mod failures;
pub(crate) mod frames;
mod framing;
mod holding;
mod limits;
pub(crate) mod log;
mod numbers;
mod probes;
mod ready;
mod reload;
mod resources;
mod retry;
mod routing;
mod serve;
mod service;
mod sides;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod upgrade;

pub(crate) use support::Network;
#[cfg(feature = "jwt")]
pub(crate) use support::{Backend, Edge};

thread_local! {
    /// The copies of request heads.
    pub(crate) static COPIES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}
