//! Durable stores for [`buttress`]: sagas, idempotency keys, outbox and inbox on sqlx.
//!
#![cfg_attr(
    feature = "sqlite",
    doc = "- [`SqliteStore`]: a file, or a database in memory; no server. The default."
)]
#![cfg_attr(
    not(feature = "sqlite"),
    doc = "- `SqliteStore`: a file, no server (feature `sqlite`)."
)]
#![cfg_attr(feature = "postgres", doc = "- [`PostgresStore`]: PostgreSQL 15 or newer.")]
#![cfg_attr(
    not(feature = "postgres"),
    doc = "- `PostgresStore`: PostgreSQL 15 or newer (feature `postgres`)."
)]
//!
//! Each is one value, cheap to clone, that implements every store trait of `buttress`. It creates and
//! migrates its tables by itself, all of which are named `buttress_...`.
//!
#![cfg_attr(feature = "sqlite", doc = "```")]
#![cfg_attr(not(feature = "sqlite"), doc = "```ignore")]
//! use std::time::Duration;
//! use buttress::Rng;
//! use buttress_durable::outbox::{MessageId, NewMessage, RelayId, Store, Write};
//! use buttress_sqlx::{SqliteConfig, SqliteStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let file = std::env::temp_dir().join(format!("buttress-doc-{}.db", std::process::id()));
//! # let remove = |file: &std::path::Path| {
//! #     for suffix in ["", "-wal", "-shm"] {
//! #         let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
//! #     }
//! # };
//! # remove(&file);
//! let store = SqliteStore::open(SqliteConfig::new(&file)).await?;
//!
//! // What an order changes and what it tells the world, in one transaction of the user's.
//! let mut tx = store.begin().await?;
//! sqlx::query("CREATE TABLE orders (number INTEGER)").execute(&mut **tx).await?;
//! sqlx::query("INSERT INTO orders VALUES (7)").execute(&mut **tx).await?;
//! let message = NewMessage::new(MessageId::random(&Rng::default()), "order-7", "placed");
//! store.write(&mut tx, &message).await?;
//! tx.commit().await?;
//!
//! // A relay does this; it owns partitions by lease.
//! let relay = RelayId::random(&Rng::default());
//! let owned = store.lease_partitions(relay, Duration::from_secs(10), &[]).await?;
//! let fetched = store.fetch(relay, &owned.leases, 100).await?;
//! assert_eq!(fetched.messages[0].payload, b"placed");
//! # store.close().await;
//! # drop(store);
//! # remove(&file);
//! # Ok(())
//! # }
//! ```
//!
//! # Group commit
//!
//! What many callers ask for at the same time is written in one transaction, so that they share the wait
//! for the disk. A batch is bounded, in rows and bytes, because others wait behind it. If it fails,
//! everybody in it is told with a `Transient` error, the connection is closed, and the next batch gets a
//! new one. Repeating is always safe: every write carries an id, and one that is there already is
//! recognised by it.
//!
//! # What is durable
//!
//! | | survives the end of the process | survives a power loss |
//! |---|---|---|
//! | SQLite, `Synchronous::Full` (the default) | yes | yes |
//! | SQLite, `Synchronous::Normal` | yes | the last commits may be gone, the file is sound |
//! | PostgreSQL, `synchronous_commit = on` (its default) | yes | yes |
//! | PostgreSQL, `synchronous_commit = off` | yes, of this process | the last commits may be gone |
//!
//! Killing a process with SIGKILL does not test `Full`: what was written is with the operating system by
//! then, also at `Normal`. Only a power loss tells the two apart.
//!
//! # Transactions on SQLite
//!
//! A file has one writer at a time, and SQLite lets those who wait for it try again and again, in no
//! order; a plain `BEGIN` that reads, then writes, fails at once when somebody wrote in between.
//! `SqliteStore::begin` therefore begins with `BEGIN IMMEDIATE`, behind a gate at which
//! all writers of the process to that file stand in line, first come, first served, the store's own
//! writer among them. Keep such a transaction short. Transactions of a pool of your own work as well, if
//! it is made with the store's `connect_options`; they stand in no line.
//!
//! # Transactions on PostgreSQL
//!
//! `PostgresStore::begin` begins one on the store's pool; a transaction of any other pool to the same database
//! works as well. The store's own operations run on sessions of their own, with settings for the planner
//! that the application's transactions never see. Every call of the store in a transaction ends with the
//! operation timeout. After that, roll the transaction back or drop it.
//!
//! The store's pool asks a connection for an answer when it lends it and when it comes back, for up to a
//! quarter of the shorter of acquire and operation timeout. It replaces a connection without an answer. It
//! closes a connection that comes back in an open transaction or in a read-only session.
//!
//! `PostgresStore::on` opens a store on the application's own pool, and sets nothing on its sessions.
//! `PostgresConfig::with_pool` says what such a pool should have. `PostgresConfig::transaction_pooling`
//! is for a pooler that lends sessions by transaction. In both cases each operation runs in a transaction
//! that sets what it needs for itself.
//!
//! # Time
//!
//! Leases, delays and lifetimes are stored as wall time, and end at the instant. SQLite stores take it
//! from the [`Clock`](buttress::Clock) they are given; processes on one machine share it. PostgreSQL
//! stores take the database's, so that it does not matter how machines disagree. Waits on a database
//! (for a connection, a lock, an answer) are bounded by tokio's clock in any case; a paused one ends
//! them at once, so tests with a database run in normal time and move a
//! [`VirtualClock`](buttress::VirtualClock) by hand.
//!
//! A wall clock may be set back. Each row keeps how long it was granted for. A store that finds a lease, a
//! result, a held key or a delayed message that ends later than its length from now shortens it to that:
//! what a dead owner had is free at most one length after a store has looked. An owner that lives and renews
//! loses nothing. A clock that is set forward ends leases early: the epoch of a partition or of a saga, or
//! the number of a claim, then refuses what the old owner writes.
//!
//! # Errors
//!
//! `Transient`: the database is away, slow, locked, full or restarting, or a server is a read-only
//! replica; the cause is the source of the error, and all is well again when the database is.
//! `Misconfigured`: a person must mend something, which the message names: a role, a database, a schema,
//! a right (PostgreSQL 28xxx, 3D000, 3F000, 42501), or a file that SQLite cannot open or write, or that was
//! deleted, moved or replaced while a store has it open. `Corrupt` names the row that cannot be read;
//! others are not affected. A saga like that is left alone: a take-over names it, and a list leaves it out
//! and logs it. A message becomes a dead letter that holds its key. A partition whose epoch is damaged is
//! not relayed, and each look at it is logged at ERROR. The largest epoch (2^63 - 1) is never assigned: a
//! saga that would need it is `Corrupt`. `Invalid` names the bound: one write takes up to [`LARGEST`] bytes.

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
// Without a database nothing uses what both stores share.
#![cfg_attr(not(any(feature = "sqlite", feature = "postgres")), allow(dead_code, unused))]

mod barrier;
mod bounds;
mod claims;
mod epoch;
mod error;
pub mod guide;
mod headers;
mod log;
mod partitions;
mod passes;
mod pool_monitor;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
mod receipts;
mod relaying;
#[cfg(feature = "sqlite")]
mod sqlite;
mod time;

pub use bounds::{LARGEST, LONGEST_NAME};
pub use pool_monitor::{INSTRUMENTS, PoolMonitor};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresConfig, PostgresStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteConfig, SqliteStore, SqliteTransaction, Synchronous};
#[doc(no_inline)]
pub use sqlx;
