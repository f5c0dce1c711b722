//! Durable stores for `buttress`.

#![forbid(unsafe_code)]

mod barrier;
mod bounds;
mod claims;
mod error;
mod headers;
mod log;
mod partitions;
mod passes;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
mod relaying;
#[cfg(feature = "sqlite")]
mod sqlite;
mod time;

pub use bounds::{LARGEST, LONGEST_NAME};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresConfig, PostgresStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteConfig, SqliteStore, SqliteTransaction, Synchronous};
