#![doc = include_str!("../guide/bulkhead.md")]

mod backpressure;
mod config;
mod future;
mod handle;
mod keyed;
mod layer;
mod queued;
mod service;
mod shared;
mod state;

pub use backpressure::BackpressureBulkhead;
pub use config::Config;
pub use future::{QueuedFuture, ResponseFuture};
pub use handle::{Handle, Stats};
pub use keyed::{KeyedBulkhead, KeyedBulkheadLayer, KeyedHandle, KeyedStats};
pub use layer::BulkheadLayer;
pub use queued::QueuedBulkhead;
pub use service::Bulkhead;
pub use shared::Permit;
