//! Sagas and a transactional outbox, for work that must survive a crash of the process.
//!
//! | module | what it does |
//! |---|---|
//! | [`saga`] | runs work over several services in steps that can be undone, and resumes it after a crash |
//! | [`outbox`] | writes messages in the transaction of their change and relays them in order; has an inbox |
//!
//! Both modules call [`tower`] services: put the layers of [`buttress`](https://docs.rs/buttress)
//! around these services. Each module has a store trait and a store in memory. `buttress-sqlx` has
//! the stores on SQLite and PostgreSQL.

mod bounded;
mod caught;
mod check;
mod cloned;
mod ended;
mod epoch;
mod id;
mod instant;
mod instruments;
mod outage;
#[cfg(feature = "serde")]
mod seconds;
mod setters;
mod sync;
mod text;
mod unordered;

pub mod outbox;
pub mod saga;
pub mod telemetry;
