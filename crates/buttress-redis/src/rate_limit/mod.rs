#![doc = include_str!("../guide/rate_limit.md")]

mod config;
mod layer;
mod limiter;
mod refusal;
mod script;
mod state;

pub use config::{Config, OnOutage};
pub use layer::{FindKey, OneKey, RateLimit, RateLimitLayer, ResponseFuture};
pub use limiter::{Handle, Stats};
