//! The stores against real databases: behaviour that both share, and behaviour of each.
#![allow(clippy::disallowed_methods, reason = "a database takes real time")]
// The helpers of a test fail by panicking, as the tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod ages;
mod barrier;
mod children;
mod claims;
mod clocks;
#[cfg(feature = "postgres")]
mod cluster;
mod conformance;
mod damage;
mod damaged_messages;
mod db;
mod ddl;
#[cfg(feature = "postgres")]
mod event_backlog;
#[cfg(feature = "postgres")]
mod event_order;
#[cfg(feature = "postgres")]
mod event_servers;
mod event_torture;
mod events;
mod executors;
mod in_memory;
mod inbox;
#[cfg(feature = "postgres")]
mod lent;
mod letters;
mod messages;
#[cfg(feature = "postgres")]
mod misconfigured;
mod missing_tables;
mod moved;
mod not_kept;
#[cfg(feature = "postgres")]
mod pooler;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod proxy;
mod receipts;
mod recovery;
mod refused;
mod relay_and_inbox;
#[cfg(feature = "postgres")]
mod saga_pages;
mod sagas;
#[cfg(feature = "postgres")]
mod server;
#[cfg(feature = "postgres")]
mod service_role;
#[cfg(feature = "postgres")]
mod sessions;
mod signals;
mod sqlite;
mod takeover;
mod transactional;
#[cfg(feature = "postgres")]
mod users_pool;
mod versions;
mod waits;
