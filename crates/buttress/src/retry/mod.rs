#![doc = include_str!("../guide/retry.md")]

mod again;
mod backoff;
mod budget;
mod clone_request;
mod config;
#[cfg(feature = "serde")]
mod document;
mod future;
mod handle;
mod layer;
mod reading;
mod service;
mod shared;
mod state;

pub use backoff::{Backoff, Jitter};
pub use budget::Budget;
pub use clone_request::{ByClone, CloneRequest, Stamped};
pub use config::Config;
pub use future::ResponseFuture;
pub use handle::{Handle, Stats};
pub use layer::RetryLayer;
pub use service::Retry;
