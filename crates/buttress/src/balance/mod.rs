#![doc = include_str!("../guide/balance.md")]

mod choice;
mod config;
mod endpoints;
mod future;
mod handle;
mod history;
mod outliers;
mod penalty;
mod reading;
mod request_key;
mod resolving;
mod rules;
mod seat;
mod service;
mod shared;
mod state;
mod tried;
mod waiting;

pub use config::{Config, Policy};
pub use endpoints::Endpoints;
pub use future::ResponseFuture;
pub use handle::{EndpointStats, Handle, ResolverStats, Stats};
pub use outliers::Outliers;
pub use request_key::{FindKey, FindTried, NoKey, NoTried};
pub use rules::Rules;
pub use service::Balance;
pub use state::EndpointState;
pub use tried::Tried;
