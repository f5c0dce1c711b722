//! A proxy between a client that writes bytes and backends that write bytes, all in memory.

mod bodies;
mod failures;
mod framing;
mod numbers;
mod routing;
mod serve;
mod support;

pub(crate) use support::Network;
