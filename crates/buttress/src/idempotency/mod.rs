#![doc = include_str!("../guide/idempotency.md")]

mod backend;
mod bounded;
mod call;
mod claim;
mod config;
mod detached;
mod encoded;
mod future;
mod handle;
mod holding;
mod identity;
mod key;
mod layer;
mod lines;
mod memory;
mod owner;
mod renewal;
mod running;
mod service;
mod settle;
mod shared;
mod state;
mod store;
mod tape;

pub use claim::{Claim, Form, Plain, Transactional, WithClaim};
pub use config::{Config, Leave, LostClaim, StoreFailure};
pub use encoded::Encoded;
pub use future::ResponseFuture;
pub use handle::{Handle, Stats};
pub use identity::{Fingerprinted, Fixed, Identify, Identity, IntoKey, Scoped};
pub use key::{Fingerprint, InvalidKey, Key};
pub use layer::IdempotencyLayer;
pub use memory::{MemoryStore, MemoryTransaction};
pub use service::Idempotency;
pub use store::{ClaimId, Claimed, CompleteIn, Immediate, Size, Store};
pub use tape::{Answers, AnswersIf, ByFn, Kept, Recorded, Results, Tape};
