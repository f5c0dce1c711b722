#![doc = include_str!("../guide/aggregate.md")]

mod builder;
mod config;
mod future;
mod handle;
mod list;
mod missing;
mod part;
mod reading;
mod service;
mod shared;
mod state;

pub use builder::Builder;
pub use config::Config;
pub use future::ResponseFuture;
pub use handle::{Handle, PartStats, Stats};
pub use list::{Append, PartList};
pub use missing::{Missing, Parts};
pub use part::{ErrorOf, Optional, Part, Required};
pub use service::Aggregate;
