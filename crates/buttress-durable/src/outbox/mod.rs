#![doc = include_str!("../guide/outbox.md")]

mod backlog_check;
mod boxed;
mod config;
mod counted_inbox;
mod deliver;
mod frame;
mod inbox;
mod memory;
mod message;
mod monitor;
mod reading;
mod relay;
mod running;
mod state;
mod stats;
mod store;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
mod writer;

pub use backlog_check::BacklogCheck;
pub use boxed::BoxStore;
pub use config::{Config, HeadOfKey};
pub use counted_inbox::CountedInbox;
pub use inbox::{Inbox, LONGEST_FOREIGN, Receipt};
pub use memory::{MemoryStore, MemoryTransaction};
pub use message::{InvalidMessage, Message, MessageId, NewMessage};
pub use monitor::Monitor;
pub use relay::{Relay, RelayHandle};
pub use stats::{LAG_BOUNDS, Stats};
pub use store::{
    Backlog, DeadLetter, Fetched, Lease, Owned, RelayId, Renewal, Settled, Store, Verdict, Write,
};
pub use writer::{Outbox, Written};
