//! [`Pattern`]: the pattern that a layer is of.

#[cfg(feature = "metrics")]
use crate::vocabulary::error::ErrorKind;

/// The pattern of a layer. A layer without a name reports under the name of its pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pattern {
    Aggregate,
    Balance,
    Bulkhead,
    CircuitBreaker,
    Fallback,
    Gateway,
    Idempotency,
    RateLimit,
    Retry,
    Route,
    Shadow,
    Split,
    TimeLimit,
}

impl Pattern {
    /// Returns the name of the pattern in logs, events and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Aggregate => "aggregate",
            Self::Balance => "balance",
            Self::Bulkhead => "bulkhead",
            Self::CircuitBreaker => "circuit_breaker",
            Self::Fallback => "fallback",
            Self::Gateway => "gateway",
            Self::Idempotency => "idempotency",
            Self::RateLimit => "rate_limit",
            Self::Retry => "retry",
            Self::Route => "route",
            Self::Shadow => "shadow",
            Self::Split => "split",
            Self::TimeLimit => "time_limit",
        }
    }

    /// Returns `true` if layers of this pattern, with or without a state per key, report `kind`.
    #[cfg(feature = "metrics")]
    pub(crate) fn reports(self, kind: ErrorKind, keyed: bool) -> bool {
        let is_possible = match kind {
            ErrorKind::TooManyKeys => keyed,
            // A keyed layer has no queue, but the handle of one key of a bulkhead waits.
            ErrorKind::QueueTimeout => !keyed || self == Self::Bulkhead,
            _ => true,
        };
        is_possible && Self::that_report(kind).contains(&self)
    }

    /// Returns whether a layer reads the clock of its configuration. The parts of a gateway and of its routes have their
    /// own configurations.
    pub(crate) const fn reads_time(self) -> bool {
        !matches!(self, Self::Fallback | Self::Gateway | Self::Route)
    }

    /// Returns the patterns whose layers report `kind`.
    #[cfg(feature = "metrics")]
    pub(crate) const fn that_report(kind: ErrorKind) -> &'static [Self] {
        match kind {
            ErrorKind::NoEndpoint => &[Self::Balance],
            ErrorKind::CircuitOpen => &[Self::CircuitBreaker],
            ErrorKind::RateLimited => &[Self::RateLimit],
            ErrorKind::BulkheadFull => &[Self::Bulkhead],
            ErrorKind::QueueTimeout => &[Self::Bulkhead, Self::RateLimit],
            ErrorKind::TooManyKeys => &[Self::Bulkhead, Self::CircuitBreaker, Self::RateLimit],
            ErrorKind::TimedOut | ErrorKind::DeadlineExceeded => &[Self::TimeLimit],
            ErrorKind::KeyMissing
            | ErrorKind::KeyInvalid
            | ErrorKind::KeyReused
            | ErrorKind::KeyInFlight
            | ErrorKind::ResultNotKept
            | ErrorKind::ClaimLost
            | ErrorKind::StoreUnavailable
            | ErrorKind::StoreFailed
            | ErrorKind::DetachedFull
            | ErrorKind::ShuttingDown => &[Self::Idempotency],
            ErrorKind::NoRoute => &[Self::Gateway],
            ErrorKind::Unauthenticated
            | ErrorKind::Forbidden
            | ErrorKind::AuthUnavailable
            | ErrorKind::NoBackend => &[Self::Route],
        }
    }
}
