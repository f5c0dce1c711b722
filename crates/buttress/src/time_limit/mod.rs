#![doc = include_str!("../guide/time_limit.md")]

mod config;
mod countdown;
mod future;
mod handle;
mod layer;
mod limit;
mod reading;
mod service;
mod shared;
mod state;

pub use config::Config;
pub use countdown::Countdown;
pub use future::{Limited, ResponseFuture};
pub use handle::{Handle, Stats};
pub use layer::TimeLimitLayer;
pub use limit::{Fixed, Limit};
pub use service::TimeLimit;
