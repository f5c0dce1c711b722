//! [`Event`]: the events that layers report, and their parts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::vocabulary::error::Error;
use crate::vocabulary::store_error::StoreErrorKind;

/// The state of a circuit, for operators.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum CircuitState {
    /// Calls pass and are counted.
    Closed,
    /// Calls are refused until the open time has passed.
    Open,
    /// A few probes decide whether the circuit closes.
    HalfOpen,
    /// Every call is refused until an operator resets the circuit.
    ForcedOpen,
    /// Calls pass and are not counted.
    Disabled,
    /// Calls pass and are counted, but never open the circuit.
    MetricsOnly,
}

impl CircuitState {
    /// Every state, in the order of declaration.
    pub const ALL: &'static [Self] = &[
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::Disabled,
        Self::MetricsOnly,
    ];

    /// Returns the state in kebab case, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::ForcedOpen => "forced-open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics-only",
        }
    }
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An event that a layer reports. A call that was admitted and succeeded causes no event.
#[non_exhaustive]
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A call was refused.
    Refused(Error),
    /// A call was cancelled at its time limit.
    TimedOut(Error),
    /// A circuit changed its state.
    CircuitChanged {
        /// The state before the change.
        from: CircuitState,
        /// The state after the change.
        to: CircuitState,
        /// The number of the circuit within its layer: 0 for the only circuit. A keyed layer
        /// numbers its circuits in the order of their creation.
        circuit: u64,
    },
    /// An attempt failed, and the retry makes another one.
    Retrying {
        /// The number of the failed attempt. The first attempt is 1.
        attempt: u32,
        /// The wait before the next attempt.
        delay: Duration,
    },
    /// An attempt failed and no other attempt follows, although the failure was worth one. Reported
    /// once per call.
    RetriesExhausted {
        /// How many attempts were made.
        attempts: u32,
        /// The reason why no other attempt follows.
        reason: GaveUp,
    },
    /// A fallback answered in place of the service.
    FellBack,
    /// The fallback failed too.
    FallbackFailed,
    /// A call got the answer of an earlier call with the same idempotency key.
    Replayed,
    /// A call that waited for another call with its idempotency key runs in place of that call.
    TakenOver,
    /// Another call took an idempotency key over while its handler ran.
    ClaimLost,
    /// A call with an idempotency key did its work, but its result could not be stored.
    ResultNotKept,
    /// An operation of a store failed.
    StoreFailed {
        /// The kind of the failure, which says what a caller can do about it.
        kind: StoreErrorKind,
    },
    /// A balancer took an endpoint out because it failed too often.
    EndpointEjected {
        /// The id of the instance.
        endpoint: Arc<str>,
        /// How long the endpoint is out.
        away: Duration,
    },
    /// An ejected endpoint is in again.
    EndpointReturned {
        /// The id of the instance.
        endpoint: Arc<str>,
    },
    /// An endpoint failed to become ready, and rests.
    EndpointNotReady {
        /// The id of the instance.
        endpoint: Arc<str>,
        /// How long the endpoint rests.
        rest: Duration,
    },
    /// The set of a balancer changed.
    EndpointsChanged {
        /// How many endpoints the set has now.
        endpoints: usize,
        /// Endpoints that joined.
        added: usize,
        /// Endpoints that left.
        removed: usize,
    },
    /// Panic mode of a balancer began or ended. In panic mode no endpoint is in, and calls go to endpoints that are
    /// out.
    PanicChanged {
        /// `true` if panic mode began.
        panic: bool,
    },
    /// The resolver of a balancer failed. The last set stays.
    ResolveFailed {
        /// The kind of the failure.
        kind: StoreErrorKind,
    },
    /// A change of the configuration took effect.
    Reconfigured,
}

/// The reason why a retry stopped although the failure was worth another attempt.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GaveUp {
    /// Every permitted attempt was made.
    Attempts,
    /// The next attempt would begin at or after the end of the total time.
    TotalTime,
    /// The next attempt would have begun at the deadline of the request or later.
    Deadline,
    /// The shared budget was empty.
    Budget,
    /// The hint of the failure asked for a longer wait than this retry permits.
    LongHint,
    /// The request could not be copied.
    Request,
    /// The service failed to become ready for the next attempt. The caller gets that failure.
    NotReady,
}

impl GaveUp {
    /// Returns the reason in kebab case, for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::TotalTime => "total-time",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
            Self::LongHint => "long-hint",
            Self::Request => "request",
            Self::NotReady => "not-ready",
        }
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
