//! Durable stores for `buttress`.

#![forbid(unsafe_code)]

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod barrier;
mod bounds;
mod claims;
mod error;
mod headers;
mod log;
mod partitions;
mod passes;
mod queue;
mod relaying;
#[cfg(feature = "sqlite")]
mod sqlite;
mod time;

pub use bounds::{LARGEST, LONGEST_NAME};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteConfig, SqliteStore, SqliteTransaction, Synchronous};
