#![doc = include_str!("../guide/idempotency.md")]

mod script;
mod store;

pub use store::IdempotencyStore;
