#![doc = include_str!("../guide/fallback.md")]

mod config;
mod future;
mod handle;
mod layer;
mod reading;
mod recover;
mod service;
mod shared;

pub use config::Config;
pub use future::ResponseFuture;
pub use handle::{Handle, Stats};
pub use layer::{FallbackLayer, When};
pub use recover::{
    BothFailed, FromError, FromRequest, FromResult, KeepPrimary, Recover, ServiceFuture, ToService,
    Value,
};
pub use service::Fallback;
