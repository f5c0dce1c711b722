#![doc = include_str!("../guide/event_store.md")]

mod aggregate;
mod batch;
mod boxed;
mod checkpoint;
mod commands;
mod decoder;
mod log;
mod memory;
mod projection;
mod recorded;
mod repository;
mod store;
mod stream;

pub use aggregate::{Aggregate, Failed, Loaded};
pub use batch::{AppendError, Appended, Expected, InvalidBatch, NewBatch, NewEvent};
pub use boxed::BoxStore;
pub use checkpoint::{
    Advance, LONGEST_PROJECTION, Leased, ProjectionClaim, ProjectionLease, ProjectionState,
    ProjectorId, Start, Swap,
};
pub use commands::{Addressed, Command, Commands};
pub use decoder::{Decoder, Fault, Undecodable, Upcasters};
pub use log::Log;
pub use memory::{MemoryStore, MemoryTransaction};
pub use projection::{
    Batch, Config, Effects, Handles, InTransaction, Mode, OnFailure, Projection, ProjectionCheck,
    ProjectionHandle, ProjectionMonitor, RebuildError, Replayed, Separate, Stats, Stopped,
};
pub use recorded::{
    Filter, Ordered, Page, REPEATS, Recorded, Snapshot, StoreStats, StreamPage, StreamState,
    Unreadable, find_repeated,
};
pub use repository::Repository;
pub use store::{Append, Begin, Checkpoint, Store};
pub use stream::{Position, StreamId, Version};

#[cfg(all(test, not(buttress_loom)))]
mod tests;
