//! Sagas, a transactional outbox, consumers and event sourcing, for work that must survive a crash of the process.
//!
//! | module | what it does |
//! |---|---|
//! | [`saga`] | runs work over several services in steps that can be undone, and resumes it after a crash |
//! | [`outbox`] | writes messages in the transaction of their change and relays them in order; has an inbox |
//! | [`event`] | puts data into an envelope with the attributes of CloudEvents |
//! | [`consume`] | handles the messages of a transport with a service, in order by key |
//! | [`bus`] | delivers messages within a process |
//! | [`event_store`] | keeps the events of aggregates as the truth, and projections that follow them |
//! | [`dispatch`] | sends each command or query to the handler of its type |
//!
//! All modules call [`tower`] services: put the layers of [`buttress`](https://docs.rs/buttress) around these services.
//! Sagas, outbox, dead letters and events have a store trait and a store in memory. `buttress-sqlx` has the stores on
//! SQLite and PostgreSQL.

// The helpers of a test fail by panicking, as the tests do.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod alive;
mod answer;
mod bounded;
mod boxed;
mod caught;
mod causes;
mod check;
mod cloned;
mod ended;
mod epoch;
mod hashing;
mod instant;
mod metric_names;
mod outage;
mod refreshed;
#[cfg(feature = "serde")]
mod seconds;
mod serves;
mod setters;
mod sync;
mod text;
mod unordered;

pub mod bus;
pub mod consume;
pub mod dispatch;
pub mod event;
pub mod event_store;
pub mod outbox;
pub mod saga;
pub mod telemetry;

pub use answer::Answer;
