//! Transactional outbox and inbox.

mod inbox;
mod message;
mod store;

pub use inbox::{Inbox, Passage, Receipt};
pub use message::{InvalidMessage, Message, MessageId, NewMessage};
pub use store::{Backlog, DeadLetter, Fetched, Lease, RelayId, Settled, Store, Verdict, Write};
