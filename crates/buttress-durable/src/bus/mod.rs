#![doc = include_str!("../guide/bus.md")]

mod error;
mod pattern;
mod publish;
mod state;
mod stats;
mod subscribe;

pub use error::{BusError, InvalidPattern};
pub use pattern::Pattern;
pub use publish::{Bus, Publish};
pub use stats::GroupStats;
pub use subscribe::{Overflow, Subscribe, Subscription};

#[cfg(all(test, not(buttress_loom)))]
mod tests;
