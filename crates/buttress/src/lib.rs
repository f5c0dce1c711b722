//! Async resilience for `tower`.

mod classify;
mod clock;
mod counters;
#[cfg(feature = "serde")]
mod duration_text;
mod error;
mod keyed;
mod mode;
mod name;
mod observe;
mod queue;
mod reject;
mod rng;
mod seqlock;
mod sync;
mod wakers;
mod window;

pub mod bulkhead;
pub mod circuit_breaker;
pub mod fallback;
pub mod rate_limit;
#[cfg(feature = "serde")]
pub mod registry;
pub mod retry;
pub mod time_limit;

pub use classify::{
    AnyError, AsRefusal, Classify, ClassifyFn, Outcome, RetryableErrors, ServiceErrors, classify_fn,
};
pub use clock::{Clock, Sleep};
pub use error::{Error, ErrorKind, InvalidConfig};
pub use mode::{Backpressure, Queued, Refuse};
pub use name::Name;
pub use observe::{CircuitState, Event, GaveUp, Observer};
pub use reject::{AsError, AsResponse, Reject, as_response};
pub use rng::Rng;
