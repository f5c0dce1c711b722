#![doc = include_str!("../guide/balance.md")]

mod config;
mod endpoints;
mod find;
mod future;
mod handle;
mod history;
mod outliers;
mod plan;
mod reading;
mod resolving;
mod rules;
mod service;
mod shared;
mod state;
mod tried;
mod waiting;

pub use config::{Config, Policy};
pub use endpoints::Endpoints;
pub use find::{FindKey, FindTried, NoKey, NoTried};
pub use future::ResponseFuture;
pub use handle::{EndpointStats, Handle, ResolverStats, Stats};
pub use outliers::Outliers;
pub use rules::Rules;
pub use service::Balance;
pub use state::EndpointState;
pub use tried::Tried;
