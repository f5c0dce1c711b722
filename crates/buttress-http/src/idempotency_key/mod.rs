#![doc = include_str!("guide.md")]

mod body;
mod client;
mod codec;
mod collect;
mod future;
mod header;
mod identity;
mod layer;
mod mode;
mod scope;
mod service;
mod stored;
mod tape;
#[cfg(test)]
mod tests;
mod unusable;

pub use body::BufferedBody;
pub use client::{SetIdempotencyKey, SetIdempotencyKeyLayer};
pub use codec::ResponseCodec;
pub use future::ResponseFuture;
pub use header::{IDEMPOTENCY_KEY, IDEMPOTENCY_REPLAYED, find_key};
pub use identity::fingerprint;
pub use layer::IdempotencyKeyLayer;
pub use mode::Mode;
pub use scope::Scope;
pub use service::IdempotencyKey;
pub use stored::StoredResponse;
pub use tape::kept_by_default;
pub use unusable::{MalformedKey, UnusableRequest};
