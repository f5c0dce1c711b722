//! [`ErrorKind`].

use std::fmt;

/// What kind of refusal or timeout an [`Error`](crate::Error) is.
///
/// ```
/// # use buttress::{Error, ErrorKind};
/// fn is_overload(error: &Error) -> bool {
///     matches!(error.kind(), ErrorKind::RateLimited | ErrorKind::BulkheadFull)
/// }
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorKind {
    /// A circuit breaker is open, or half-open with every probe taken.
    CircuitOpen,
    /// A rate limiter had too few tokens left.
    RateLimited,
    /// A bulkhead was at capacity, and so was its queue if it has one.
    BulkheadFull,
    /// A place in a waiting queue was held for its longest wait and nothing came free.
    QueueTimeout,
    /// A keyed layer holds its greatest number of keys and none of them could be forgotten.
    TooManyKeys,
    /// The call was still running when its time limit passed. The service may have been reached.
    TimedOut,
    /// A request without an idempotency key, where one is required.
    KeyMissing,
    /// An idempotency key that is empty, too long, or holds control characters.
    KeyInvalid,
    /// An idempotency key that was used before, for a request that asks for something else.
    KeyReused,
    /// Another call with the same idempotency key is still running.
    KeyInFlight,
    /// Somebody else took an idempotency key over while its handler ran here. The service was reached.
    ClaimLost,
    /// The store of an idempotency layer is away, slow or busy, and the layer fails closed.
    StoreUnavailable,
    /// The store of an idempotency layer cannot read or keep what belongs to this key.
    StoreFailed,
    /// As many handlers as may run detached are running.
    DetachedFull,
    /// The layer is being drained before a shutdown, and begins no handler.
    ShuttingDown,
    /// A gateway has no route for this request.
    NoRoute,
    /// The authorization service of a route denied this request.
    Unauthorized,
    /// The authorization service of a route failed: nobody knows whether the request is allowed.
    AuthUnavailable,
    /// Every backend of a route failed to become ready.
    NoBackend,
}

impl ErrorKind {
    /// The kind in kebab case, for logs, metrics and problem documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CircuitOpen => "circuit-open",
            Self::RateLimited => "rate-limited",
            Self::BulkheadFull => "bulkhead-full",
            Self::QueueTimeout => "queue-timeout",
            Self::TooManyKeys => "too-many-keys",
            Self::TimedOut => "timed-out",
            Self::KeyMissing => "key-missing",
            Self::KeyInvalid => "key-invalid",
            Self::KeyReused => "key-reused",
            Self::KeyInFlight => "key-in-flight",
            Self::ClaimLost => "claim-lost",
            Self::StoreUnavailable => "store-unavailable",
            Self::StoreFailed => "store-failed",
            Self::DetachedFull => "detached-full",
            Self::ShuttingDown => "shutting-down",
            Self::NoRoute => "no-route",
            Self::Unauthorized => "unauthorized",
            Self::AuthUnavailable => "auth-unavailable",
            Self::NoBackend => "no-backend",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
