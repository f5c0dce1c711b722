//! Work that outlives a call: sagas, and messages written in the transaction whose changes they describe.
//!
//! | module | what it does |
//! |---|---|
//! | [`saga`] | work over several services, in steps that can be undone, resumed after a crash |
//! | [`outbox`] | messages written with the change that they describe, relayed in order; an inbox |
//!
//! Both are orchestrators over [`tower`] services: put the layers of
//! [`buttress`](https://docs.rs/buttress) around the services that they call. Each has a store trait and a
//! store in memory here; `buttress-sqlx` has the stores on SQLite and PostgreSQL.

mod check;
mod cloned;
mod epoch;
mod id;
mod instant;
mod instruments;
mod outage;
#[cfg(feature = "serde")]
mod seconds;
mod sync;
mod text;
mod unordered;

pub mod outbox;
pub mod saga;
pub mod telemetry;
