#![doc = include_str!("../guide/sidecar.md")]

mod admitting;
mod attempt;
mod config;
mod future;
mod gate;
mod handle;
mod judge;
mod layer;
mod optional;
mod reading;
mod service;

pub use config::Config;
pub use future::ResponseFuture;
pub use handle::{Handle, Stats};
pub use layer::SidecarLayer;
pub use service::Sidecar;
