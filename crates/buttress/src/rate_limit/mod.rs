#![doc = include_str!("../guide/rate_limit.md")]

mod config;
mod handle;
mod keyed;
mod layer;
mod reading;
mod service;
mod shared;
mod state;
mod tokens;

pub use crate::vocabulary::cost::{Cost, OneToken};
pub use config::{Config, Policy};
pub use handle::{Handle, Stats};
pub use keyed::{
    KeyLimit, KeyedHandle, KeyedRateLimit, KeyedRateLimitLayer, KeyedStats, OneRule, PlanStats,
    Plans, PlansHandle, Rules,
};
pub use layer::RateLimitLayer;
pub use service::{
    BackpressureRateLimit, QueuedFuture, QueuedRateLimit, RateLimit, ResponseFuture,
};
