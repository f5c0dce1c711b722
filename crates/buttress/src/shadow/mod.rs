#![doc = include_str!("../guide/shadow.md")]

mod compare;
mod config;
mod future;
mod handle;
mod mirror;
mod reading;
mod service;
mod shared;
mod state;

pub use compare::{ByFingerprint, Compare, Comparison, Mismatch, NotCompared, by_fingerprint};
pub use config::Config;
pub use future::ResponseFuture;
pub use handle::{Handle, Stats};
pub use service::Shadow;
