//! The lease of each shard: one member of a group pulls from a shard at a time.

mod state;
mod store;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use state::{Changes, Membership};
pub(crate) use store::Leases;
