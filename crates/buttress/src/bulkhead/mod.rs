#![doc = include_str!("../guide/bulkhead.md")]

mod config;
mod handle;
mod keyed;
mod layer;
mod reading;
mod service;
mod shared;
mod state;

pub use config::Config;
pub use handle::{Handle, Stats};
pub use keyed::{KeyedBulkhead, KeyedBulkheadLayer, KeyedHandle, KeyedStats};
pub use layer::BulkheadLayer;
pub use service::{BackpressureBulkhead, Bulkhead, QueuedBulkhead, QueuedFuture, ResponseFuture};
pub use shared::Permit;
