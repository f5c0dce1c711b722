#![doc = include_str!("../guide/time_limit.md")]

mod config;
mod future;
mod handle;
mod layer;
mod service;

pub use config::Config;
pub use future::{Limited, ResponseFuture};
pub use handle::{Handle, Stats};
pub use layer::{Fixed, Limit, TimeLimitLayer};
pub use service::TimeLimit;
