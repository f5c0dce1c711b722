#![doc = include_str!("../guide/rate_limit.md")]

mod backpressure;
mod config;
mod cost;
mod future;
mod handle;
mod keyed;
mod layer;
mod queued;
mod service;
mod shared;
mod state;

pub use backpressure::BackpressureRateLimit;
pub use config::{Config, Policy};
pub use cost::{Cost, OneToken};
pub use future::{QueuedFuture, ResponseFuture};
pub use handle::{Handle, Stats};
pub use keyed::{KeyedHandle, KeyedRateLimit, KeyedRateLimitLayer, KeyedStats};
pub use layer::RateLimitLayer;
pub use queued::QueuedRateLimit;
pub use service::RateLimit;
