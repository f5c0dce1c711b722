//! Async resilience middleware for [`tower`]: exact, cheap, and testable under a paused clock.
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
//! | [`rate_limit`] | limits how many calls pass per time window |
//! | [`bulkhead`] | limits how many calls run concurrently |
//! | [`time_limit`] | cancels calls that run longer than their limit |
//! | [`fallback`] | answers in place of a service that failed |
//! | [`idempotency`] | performs the work of a request once, however often the client sends it |
//! | [`sidecar`] | combines limiter, breaker, retry and time limit in the right order |
//! | [`balance`] | sends each call to one of several endpoints, and can eject an endpoint that fails |
//! | [`discover`] | finds the endpoints of a service |
//! | [`split`] | sends a share of the requests to a new service, and the others to the old one |
//! | [`shadow`] | sends a copy of some requests to a mirror, and compares its answers |
//! | [`aggregate`] | makes one answer of the answers of several services |
//! | [`gateway`] | gives each route its own authorization, limiter, backends and time limit |
#![cfg_attr(
    feature = "serde",
    doc = "| [`registry`] | builds named instances from one configuration document |"
)]
#![cfg_attr(
    not(feature = "serde"),
    doc = "| `registry` | builds named instances from one configuration document (feature `serde`) |"
)]
//!
//! Sagas and the transactional outbox are in
//! [`buttress-durable`](https://docs.rs/buttress-durable). Their work survives the process that
//! started it.
//!
//! [`health`] runs the checks of a service and answers probes from their last results.
//!
//! [`context`] carries correlation, trace and deadline of a request to the layers and calls below it.
//!
//! Every module page says when to use the pattern, how the pattern decides, and which defaults it
//! has. The pages of [`guide`] explain the concepts that all patterns share.
//!
//! # What every layer promises
//!
//! - **A layer never changes your types.** A wrapped service has the response and error types of
//!   the inner service. A refusal becomes your error (`E: From<buttress::Error>`; `BoxError` needs
//!   no code) or a response. See [`Reject`].
//! - **A layer value owns its state.** All services made from one layer value, or from its clones,
//!   share one limit or circuit. A framework may apply the layer any number of times. See
//!   [`guide::sharing`].
//! - **Time comes from a [`Clock`].** A paused tokio clock drives every pattern exactly.
//! - **No capacity leaks.** A call that is dropped or panics returns its permit, probe, token and
//!   place in a queue exactly once.
//! - **An admitted call that succeeds costs little.** It needs no allocation, no lock and no boxed
//!   future.
//!
//! # Features
//!
//! - `serde`: reads configurations and the registry from documents.
//! - `json`: adds the codec `Json`, for stores that keep bytes.
//! - `metrics`: exports counters, gauges and histograms through the
//!   [`metrics`](https://docs.rs/metrics) facade. Their names are `buttress.<pattern>.<what>`. The
//!   [`telemetry`] page lists them.
//! - `fast-clock`: adds `Clock::fast`, which reads the counter of the CPU and follows the system
//!   clock.

// docs.rs shows which feature an item needs.
#![cfg_attr(docsrs, feature(doc_cfg))]
// The helpers of a test fail by panicking, as the tests do.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod machinery;
mod sync;
mod vocabulary;

pub mod aggregate;
pub mod balance;
pub mod bulkhead;
pub mod circuit_breaker;
pub mod context;
pub mod discover;
pub mod fallback;
pub mod gateway;
pub mod guide;
pub mod health;
pub mod idempotency;
pub mod rate_limit;
#[cfg(feature = "serde")]
pub mod registry;
pub mod retry;
pub mod shadow;
pub mod sidecar;
pub mod split;
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
#[cfg(feature = "serde")]
pub use vocabulary::duration_text;
pub use vocabulary::error::{Error, ErrorKind};
pub use vocabulary::id::InvalidId;
pub use vocabulary::invalid_config::InvalidConfig;
pub use vocabulary::mode::{Backpressure, Queued, Refuse};
pub use vocabulary::name::Name;
#[doc(hidden)]
pub use vocabulary::observe::simulated as __simulated;
pub use vocabulary::observe::{Absence, CircuitState, Event, GaveUp, Observer};
pub use vocabulary::reject::{AsError, AsResponse, Reject, as_response};
pub use vocabulary::rng::Rng;
pub use vocabulary::spawn::{Spawn, Spawner, Task};
pub use vocabulary::store_error::{Answer, StoreError, StoreErrorKind};
pub use vocabulary::until::{OpenCall, Until, UntilResponse};
