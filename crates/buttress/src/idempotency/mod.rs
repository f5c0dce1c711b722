//! Idempotency.

mod key;
mod store;

pub use key::{Fingerprint, InvalidKey, Key};
pub use store::{ClaimId, Claimed, CompleteIn, Store};
