//! Async resilience middleware for [`tower`]: exact, cheap, and the same under a paused clock.
//!
//! ```
//! use std::time::Duration;
//! use buttress::{bulkhead, circuit_breaker, fallback::FallbackLayer, retry::RetryLayer, time_limit::TimeLimitLayer};
//! use tower::{BoxError, ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), BoxError> {
//! let breaker = circuit_breaker::Config::new().name("prices").failure_rate(0.5).build()?;
//! let health = breaker.handle(); // for a status page, or to force the circuit open
//!
//! let prices = ServiceBuilder::new()
//!     .layer(FallbackLayer::value(0))
//!     .layer(breaker)
//!     .layer(bulkhead::Config::new().max_concurrent(32).build()?)
//!     .layer(RetryLayer::default())
//!     .layer(TimeLimitLayer::after(Duration::from_millis(500)))
//!     .service_fn(async |item: u32| Ok::<u32, BoxError>(item * 100));
//!
//! assert_eq!(prices.oneshot(7).await?, 700);
//! assert_eq!(health.stats().window_failures, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # The patterns
//!
//! | module | what it does |
//! |---|---|
//! | [`retry`] | attempts failed calls again: backoff, jitter, hints, budgets |
//! | [`circuit_breaker`] | stops calling a service that fails or is slow |
//! | [`rate_limit`] | limits how many calls pass in a time |
//! | [`bulkhead`] | limits how many calls run at once |
//! | [`time_limit`] | cuts calls short that take too long |
//! | [`fallback`] | answers in place of a service that failed |
//! | [`idempotency`] | does the work of a request once, however often it is sent |
//! | [`sidecar`] | limiter, breaker, retry and time limit in the right order |
//! | [`gateway`] | routes with authorization, limiter, backends and time limit of their own |
#![cfg_attr(
    feature = "serde",
    doc = "| [`registry`] | named instances from one configuration document |"
)]
#![cfg_attr(
    not(feature = "serde"),
    doc = "| `registry` | named instances from one configuration document (feature `serde`) |"
)]
//!
//! Sagas and the transactional outbox are in
//! [`buttress-durable`](https://docs.rs/buttress-durable): work that outlives a call.
//!
//! Every module page says when to use the pattern, how it decides and what its defaults are. The
//! [`guide`] is about what they have in common.
//!
//! # What every layer promises
//!
//! - **It never changes your types.** Response and error type that go in come out. A refusal becomes
//!   your error (`E: From<buttress::Error>`; `BoxError` works as it is) or a response; see [`Reject`].
//! - **Its state lives in the layer value.** Every service made from it, or from its clones, shares one
//!   limit or circuit, however often a framework applies it. See [`guide::sharing`].
//! - **Time comes from a [`Clock`].** A paused tokio clock drives every pattern exactly.
//! - **Nothing is lost.** A call that is dropped or panics gives its permit, probe, token and place in a
//!   queue back, exactly once.
//! - **It costs nothing while nothing happens.** On the way of a call that is admitted and succeeds there
//!   is no allocation, no lock, and no boxed future.
//!
//! # Features
//!
//! - `serde`: configurations and the registry read from documents.
//! - `json`: the codec `Json`, for stores that keep bytes.
//! - `metrics`: counters, gauges and histograms through the [`metrics`](https://docs.rs/metrics) facade, named
//!   `buttress.<pattern>.<what>`. The [`telemetry`] page lists them.
//! - `fast-clock`: `Clock::fast`, which reads the counter of the CPU and follows the system clock.

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod machinery;
mod sync;
mod vocabulary;

pub mod bulkhead;
pub mod circuit_breaker;
pub mod fallback;
pub mod gateway;
pub mod guide;
pub mod idempotency;
pub mod rate_limit;
#[cfg(feature = "serde")]
pub mod registry;
pub mod retry;
pub mod sidecar;
pub mod telemetry;
pub mod time_limit;

pub use machinery::keyed::{KeyedHandle, KeyedLayer, KeyedService};
pub use machinery::own::{Counted, Leaked, Own};
pub use vocabulary::classify::{
    AnyError, AsRefusal, Classify, ClassifyFn, Outcome, RetryableErrors, ServiceErrors, classify_fn,
};
pub use vocabulary::clock::{Clock, Sleep, VirtualClock};
#[cfg(feature = "json")]
pub use vocabulary::codec::Json;
pub use vocabulary::codec::{Codec, CodecError, Format, InMemory, InMemoryValue};
pub use vocabulary::error::{Error, ErrorKind};
pub use vocabulary::id::InvalidId;
pub use vocabulary::invalid_config::InvalidConfig;
pub use vocabulary::mode::{Backpressure, Queued, Refuse};
pub use vocabulary::name::Name;
pub use vocabulary::observe::{CircuitState, Event, GaveUp, Observer};
pub use vocabulary::reject::{AsError, AsResponse, Reject, as_response};
pub use vocabulary::rng::Rng;
pub use vocabulary::spawn::{Spawn, Spawner, Task};
pub use vocabulary::store_error::{StoreError, StoreErrorKind};
