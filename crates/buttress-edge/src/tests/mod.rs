//! A proxy between a client that writes bytes and backends that write bytes, all in memory.

mod balance;
mod bodies;
mod failures;
mod framing;
mod limits;
mod numbers;
mod routing;
mod serve;
mod support;

pub(crate) use support::Network;

thread_local! {
    /// The copies of request heads.
    pub(crate) static COPIES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}
