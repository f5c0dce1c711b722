//! Durable work: sagas and messages per second, and the waits of other users of the database.
//!
//! Measuring needs the feature `durable`; the names of the measurements do not.

pub mod flow;
pub mod sagas;

#[cfg(feature = "durable")]
pub mod base;
#[cfg(feature = "durable")]
pub mod beside;
#[cfg(feature = "durable")]
pub mod folder;
#[cfg(feature = "durable")]
pub mod in_memory;
#[cfg(feature = "durable")]
pub mod on_sqlite;
#[cfg(feature = "durable")]
pub mod order;
#[cfg(feature = "durable")]
pub mod purging;
#[cfg(feature = "durable")]
pub mod relay;
#[cfg(feature = "durable")]
pub mod relay_of_hexeract;
#[cfg(feature = "durable")]
pub mod users;

/// The number of concurrent sagas.
pub const IN_FLIGHT: usize = 64;
/// User transactions per second, if there are users.
pub const USERS: u32 = 500;
/// The most messages that a relay fetches in one call.
pub const BATCH: usize = 500;

pub const DURARE: &str = "durare";
pub const HEXERACT: &str = "hexeract";
pub const STENO: &str = "steno";

pub const MEMORY_ON_ONE: &str = "sagas of five steps in memory, 64 in flight, one thread";
pub const MEMORY_ON_TWO: &str = "sagas of five steps in memory, 64 in flight, two threads";
pub const SQLITE_NORMAL: &str = "sagas of five steps on SQLite, 64 in flight, synchronous NORMAL";
pub const SQLITE_FULL: &str = "sagas of five steps on SQLite, 64 in flight, synchronous FULL";
pub const RELAY_SQLITE: &str = "messages relayed on SQLite, batch 500";
pub const RELAY_SQLITE_BESIDE: &str = "messages relayed on SQLite, batch 500, beside 500 tx/s";
pub const RELAY_POSTGRES: &str = "messages relayed on PostgreSQL, batch 500";
pub const RELAY_POSTGRES_BESIDE: &str =
    "messages relayed on PostgreSQL, batch 500, beside 500 tx/s";
pub const PURGE_MEMORY: &str =
    "messages written, relayed and purged after 0.2 s in memory, batch 500";
pub const PURGE_SQLITE: &str =
    "messages written, relayed and purged after 0.2 s on SQLite, batch 500";
pub const PURGE_POSTGRES: &str =
    "messages written, relayed and purged after 0.2 s on PostgreSQL, batch 500";
pub const SAGAS_PURGED_SQLITE: &str =
    "sagas of five steps on SQLite, 64 in flight, purged after 2 s";
pub const SAGAS_PURGED_POSTGRES: &str =
    "sagas of five steps on PostgreSQL, 64 in flight, purged after 2 s";
pub const WAIT_ALONE: &str = "500 user transactions/s on SQLite, nothing beside them: p99";
pub const WAIT_SAGAS: &str =
    "500 user transactions/s on SQLite, sagas at full speed beside them: p99";
pub const WAIT_RELAY: &str =
    "500 user transactions/s on SQLite, a relay at full speed beside them: p99";
pub const WAIT_POSTGRES: &str =
    "500 user transactions/s on PostgreSQL, a relay at full speed beside them: p99";

const _: () = assert!(IN_FLIGHT == 64 && USERS == 500 && BATCH == 500, "the names say it");

/// What a reader of the findings must know.
pub const NOTES: &[&str] = &[
    "Sagas: five sequential steps, each with an undo. A step adds one to the output of the step \
     before it, and the last output is checked. Rounds are interleaved; the ratio is the median \
     of the rounds' ratios.",
    "Sagas in memory: steno writes to its InMemorySecStore and logs to a discarding drain. It \
     keeps values as JSON, buttress keeps them unencoded.",
    "Sagas on SQLite: the codec is JSON. Each round begins with a new file in WAL mode, on the \
     disk of the program, and its stored rows are counted afterwards. durare's workflows are \
     functions whose steps are checkpointed; they have no undos. Its own `connect` sets \
     synchronous NORMAL. For FULL it gets a pool with its other settings.",
    "Relays: a publisher that answers immediately and checks the order of each of 100 keys. \
     SQLite is at synchronous FULL. A message counts when its delivery is recorded. hexeract \
     dispatches one message after the other, each settled in its own transaction. It orders a \
     subject only as far as its ids distinguish milliseconds.",
    "PostgreSQL runs with the autovacuum of its configuration, on by default. A pass during a \
     measurement slows it down, and dead rows that no pass has removed yet make reads longer. \
     So its rates vary more between runs than the rates of SQLite.",
    "User transactions read a row, change it and write a message to the outbox. They begin at \
     their times, whether or not the earlier ones have ended. The time of each lasts until its \
     commit, and the wait lasts until it may write.",
];
