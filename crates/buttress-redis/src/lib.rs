//! Redis for [`buttress`]: streams as a transport of events, a rate limiter that several processes share, and a store
//! of idempotency keys.
//!
//! | part | what it is |
//! |---|---|
//! | [`streams`] | the publisher of a relay, and the source of a consumer |
//! | [`rate_limit`] | a limit that holds over all processes, with a local limit while Redis is unavailable |
//! | [`idempotency`] | claims and results by key |
//!
//! Redis 7.0 or newer, or Valkey. [`guide::redis`] is the page for its operators.
//!
//! # Features
//!
//! - `tls`: connections to addresses with the scheme `rediss`, by rustls with ring.

// docs.rs shows the feature that an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod address;
mod check;
mod error;
pub mod guide;
pub mod idempotency;
mod link;
pub mod rate_limit;

mod script;
pub mod streams;
mod value;

pub use address::Redis;
pub use error::Error;
