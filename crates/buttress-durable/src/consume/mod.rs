#![doc = include_str!("../guide/consume.md")]

mod config;
mod consumer;
mod content;
mod dead_letters;
mod delivery;
mod handle;
mod handling;
mod letter;
mod memory;
mod monitor;
mod reading;
mod rejected;
mod replays;
mod running;
mod source;
mod state;
mod stats;
mod watched;

pub use config::{Config, OnDead, Order, Unknown};
pub use consumer::Consumer;
pub use content::Content;
pub(crate) use content::Key;
pub use dead_letters::{DeadLetters, LetterBacklog, LetterClaim, LetterPage};
pub use delivery::Delivery;
pub use handle::ConsumerHandle;
pub use letter::{Letter, LetterId, Reason, Replay, ReplayId, Select};
pub use memory::MemoryDeadLetters;
pub use monitor::LetterMonitor;
pub use rejected::Rejected;
pub use source::{Answer, Batch, Limits, Place, Received, Settle, Shard, Source, Start};
pub use stats::Stats;

#[cfg(all(test, not(buttress_loom)))]
mod tests;
