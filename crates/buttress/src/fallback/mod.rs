#![doc = include_str!("../guide/fallback.md")]

mod future;
mod handle;
mod layer;
mod recover;
mod service;

pub use future::ResponseFuture;
pub use handle::{Config, Handle, Stats};
pub use layer::{FallbackLayer, When};
pub use recover::{
    BothFailed, FromError, FromRequest, KeepPrimary, Recover, ServiceFuture, ToService, Value,
};
pub use service::Fallback;
