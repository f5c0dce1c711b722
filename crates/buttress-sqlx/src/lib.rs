//! Durable stores for [`buttress`]: sagas, idempotency keys, outbox, inbox, dead letters of consumers, and events on
//! sqlx.
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
//! Each store is one value, cheap to clone, that implements the store traits of its parts. It
//! creates and migrates its tables when it is opened. All tables are named `buttress_...`.
//!
//! # Parts
//!
//! | feature | traits | crate |
//! |---|---|---|
//! | `saga` | `saga::Store`, `saga::Barrier` | `buttress-durable` |
//! | `outbox` | `outbox::Store`, `outbox::Write`, `outbox::Inbox`, `consume::DeadLetters` | `buttress-durable` |
//! | `idempotency` | `idempotency::Store`, `idempotency::CompleteIn` | `buttress` |
//! | `events` | `event_store::Store`, `event_store::Append`, `event_store::Checkpoint`, `event_store::Begin` | `buttress-durable` |
//!
//! Choose at least one database and one part. Otherwise the crate has no store. The default is `sqlite` with all parts.
//! A program with idempotency keys alone, on PostgreSQL, compiles no sagas and no outbox:
//!
//! ```toml
//! buttress-sqlx = { version = "0.1", default-features = false, features = ["postgres", "idempotency"] }
//! ```
//!
//! The tables do not depend on the features: each store creates the tables of all parts. So
//! programs with different parts share a database. A program that leaves a part out keeps the rows
//! of that part, and finds them when it takes the part in again.
//!
//! # Example
//!
#![cfg_attr(all(feature = "sqlite", feature = "outbox"), doc = "```")]
#![cfg_attr(not(all(feature = "sqlite", feature = "outbox")), doc = "```ignore")]
//! use std::time::Duration;
//! use buttress::Rng;
//! use buttress_durable::outbox::{MessageId, NewMessage, RelayId, Renewal, Store, Write};
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
//! // An order and the message that announces it, in one transaction of the user's.
//! let mut tx = store.begin().await?;
//! sqlx::query("CREATE TABLE orders (number INTEGER)").execute(&mut **tx).await?;
//! sqlx::query("INSERT INTO orders VALUES (7)").execute(&mut **tx).await?;
//! let message = NewMessage::new(MessageId::random(&Rng::default()), "order-7", "placed");
//! store.write(&mut tx, &message).await?;
//! tx.commit().await?;
//!
//! // A relay does this. It owns partitions by lease.
//! let relay = RelayId::random(&Rng::default());
//! let owned = store.lease_partitions(Renewal::new(relay, Duration::from_secs(10), &[])).await?;
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
//! A store writes the operations of concurrent callers in one transaction, so that they share the
//! wait for the disk. A batch is bounded in rows and bytes, because other transactions wait behind
//! it. If a batch fails, every caller in it gets a `Transient` error. The store closes the
//! connection, and opens another for the next batch. A caller can always repeat an operation: every
//! write carries an id, and the store recognises a repeated write by it.
//!
//! # Durability
//!
//! | | survives the end of the process | survives a power loss |
//! |---|---|---|
//! | SQLite, `Synchronous::Full` (the default) | yes | yes |
//! | SQLite, `Synchronous::Normal` | yes | the last commits may be lost, the file is sound |
//! | PostgreSQL, `synchronous_commit = on` (its default) | yes | yes |
//! | PostgreSQL, `synchronous_commit = off` | yes, of this process | the last commits may be lost |
//!
//! Killing a process with SIGKILL does not test `Full`. At that moment the operating system holds
//! the writes, also at `Normal`. Only a power loss shows the difference.
//!
//! # Transactions on SQLite
//!
//! A file has one writer at a time. SQLite lets waiting writers retry, in no order. A plain `BEGIN`
//! that reads and then writes fails immediately if another transaction wrote in between.
//!
//! So `SqliteStore::begin` uses `BEGIN IMMEDIATE`, behind a queue: first come, first served. All
//! writers of the process to that file wait in this queue, and the store's own writer does too.
//! Keep such a transaction short. Transactions of your own pool work as well, if the pool has the
//! store's `connect_options`. They do not wait in the queue.
//!
//! # Transactions on PostgreSQL
//!
//! `PostgresStore::begin` begins a transaction on the store's pool. A transaction of any other pool
//! to the same database works as well. The store's own operations run on separate sessions, with
//! settings for the planner that the application's transactions never see. Every call of the store
//! in a transaction ends with the operation timeout. After that, roll the transaction back or drop
//! it.
//!
//! The store's pool checks a connection when it lends it and when it comes back. Each check takes
//! up to a quarter of the shorter of acquire and operation timeout. The pool replaces a connection
//! that does not answer. It closes a connection that comes back in an open transaction or in a
//! read-only session.
//!
//! `PostgresStore::on` opens a store on the application's own pool, and sets nothing on its
//! sessions. `PostgresConfig::with_pool` lists the settings of such a pool.
//! `PostgresConfig::transaction_pooling` is for a pooler that lends sessions per transaction. In
//! both cases each operation runs in a transaction that makes its settings.
//!
//! # Time
//!
//! Leases, delays and lifetimes are stored as wall time, and end at the instant. SQLite stores read
//! the time from their [`Clock`](buttress::Clock), which the processes of one machine share.
//! PostgreSQL stores read the time of the database, so the clocks of the machines need not agree.
//!
//! The clock of tokio bounds every wait on a database: for a connection, a lock, or an answer. A
//! paused clock ends these waits immediately. So tests with a database run in normal time and move
//! a [`VirtualClock`](buttress::VirtualClock) by hand.
//!
//! A wall clock may be set back. Each row records the length that it was granted for. If a lease, a
//! result, a held key or a delayed message ends later than its length from now, the store shortens
//! it to that length. So the rows of a crashed owner are free at most one length after the clock
//! was set back and a store read them. An owner that renews loses nothing. A clock that is set
//! forward ends leases early. Then the epoch of a partition or saga, or the number of a claim,
//! fences the old owner.
//!
//! # Errors
//!
//! - `Transient`: the database is unavailable, slow, locked, full or restarting, or a server is a
//!   read-only replica. The error has its cause as `source()`, and operations succeed again when
//!   the database does.
//! - `Misconfigured`: an operator must fix the thing that the message names. On PostgreSQL it is a
//!   role, a database, a schema, a table, a column or a right (28xxx, 3D000, 3F000, 42P01, 42703,
//!   42883, 42501). On SQLite it is a missing table or column, or a file that cannot be opened or
//!   written, or that was deleted, moved or replaced while a store has it open.
//! - `Corrupt`: names the row that cannot be read. Other rows are not affected. A take-over reports
//!   such a saga, and a list leaves it out and logs it. A message that cannot be read becomes a
//!   dead letter that holds its key. Relays skip a partition whose epoch is damaged, and log it at
//!   ERROR with each renewal. A saga that would need the largest epoch (2^63 - 1) is corrupt,
//!   because that epoch is never assigned.
//! - `Invalid`: names the bound. One write takes up to [`LARGEST`] bytes.

// docs.rs shows the feature that an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
// Without a database feature, the code that both stores share is unused. With fewer parts, some of it is.
#![cfg_attr(
    not(all(
        any(feature = "sqlite", feature = "postgres"),
        any(feature = "saga", feature = "outbox", feature = "idempotency", feature = "events")
    )),
    allow(unused)
)]
#![cfg_attr(
    not(all(feature = "saga", feature = "outbox", feature = "idempotency", feature = "events")),
    allow(dead_code)
)]

mod bounds;
mod columns;
#[cfg(any(feature = "saga", feature = "outbox", feature = "events"))]
mod epoch;
mod error;
#[cfg(feature = "events")]
mod events;
pub mod guide;
#[cfg(any(feature = "outbox", feature = "events"))]
mod headers;
#[cfg(feature = "idempotency")]
mod idempotency;
#[cfg(feature = "outbox")]
mod letters;
mod number;
#[cfg(feature = "outbox")]
mod outbox;
mod partitions;
mod pool_monitor;
#[cfg(all(
    feature = "postgres",
    any(feature = "saga", feature = "outbox", feature = "idempotency", feature = "events")
))]
mod postgres;
// Only where a writer has operations.
#[cfg(any(feature = "saga", feature = "outbox", feature = "events"))]
mod purge;
#[cfg(any(
    feature = "saga",
    feature = "idempotency",
    all(feature = "sqlite", any(feature = "outbox", feature = "events"))
))]
mod queue;
#[cfg(any(feature = "saga", feature = "outbox"))]
mod receipts;
#[cfg(feature = "saga")]
mod saga;
mod settings;
#[cfg(all(
    feature = "sqlite",
    any(feature = "saga", feature = "outbox", feature = "idempotency", feature = "events")
))]
mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod steps;
mod time;

pub use bounds::{LARGEST, LONGEST_NAME};
pub use pool_monitor::{INSTRUMENTS, PoolMonitor};
#[cfg(all(
    feature = "postgres",
    any(feature = "saga", feature = "outbox", feature = "idempotency", feature = "events")
))]
pub use postgres::{PostgresConfig, PostgresStore};
#[cfg(all(
    feature = "sqlite",
    any(feature = "saga", feature = "outbox", feature = "idempotency", feature = "events")
))]
pub use sqlite::{SqliteConfig, SqliteStore, SqliteTransaction, Synchronous};
#[doc(no_inline)]
pub use sqlx;
