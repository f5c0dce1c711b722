#![doc = include_str!("../guide/gateway.md")]

mod backends;
mod future;
mod handle;
mod observer;
mod reading;
mod route;
mod service;

pub use future::ResponseFuture;
pub use handle::{Handle, RouteStats, Stats};
pub use route::{Decision, Route};
pub use service::Gateway;
