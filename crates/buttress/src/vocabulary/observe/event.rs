//! The events that layers report: [`Event`], and the words inside.

use std::fmt;
use std::time::Duration;

use crate::vocabulary::error::Error;
use crate::vocabulary::store_error::StoreErrorKind;

/// The state of a circuit, as operators see it.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum CircuitState {
    /// Calls pass and are counted.
    Closed,
    /// Calls are refused until the open time has passed.
    Open,
    /// A few probes decide whether to close.
    HalfOpen,
    /// Refuses every call until told otherwise.
    ForcedOpen,
    /// Calls pass and nothing is counted.
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

    /// The state in kebab case, for logs and metrics.
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

/// Something a layer did that is worth telling. Nothing is told of a call that was admitted and
/// succeeded.
#[non_exhaustive]
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A call was refused.
    Refused(Error),
    /// A call was cut short at its time limit.
    TimedOut(Error),
    /// A circuit changed its state.
    CircuitChanged {
        /// The state it left.
        from: CircuitState,
        /// The state it is in now.
        to: CircuitState,
        /// The number of the circuit within its layer: 0 for the only one, and in a keyed layer the order in
        /// which the circuits were made.
        circuit: u64,
    },
    /// An attempt failed and another one is due.
    Retrying {
        /// The number of the attempt that failed; the first is 1.
        attempt: u32,
        /// How long the next one waits.
        delay: Duration,
    },
    /// An attempt failed and no other follows, though the failure was worth one. Reported once per call.
    RetriesExhausted {
        /// How many attempts were made.
        attempts: u32,
        /// What forbade another.
        reason: GaveUp,
    },
    /// A fallback answered in place of the service.
    FellBack,
    /// The fallback failed too.
    FallbackFailed,
    /// A call got the answer of an earlier one with the same idempotency key.
    Replayed,
    /// A call that waited for another with its idempotency key runs in its place.
    TakenOver,
    /// Somebody else took an idempotency key over while its handler ran.
    ClaimLost,
    /// A call with an idempotency key did its work, and its result could not be kept.
    ResultNotKept,
    /// An operation of a store failed.
    StoreFailed {
        /// What can be done about it.
        kind: StoreErrorKind,
    },
    /// A live change of the configuration took effect.
    Reconfigured,
}

/// Why a retry gave up on a failure that was worth another attempt.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GaveUp {
    /// Every attempt was used.
    Attempts,
    /// The next attempt would have begun after the total time limit.
    TotalTime,
    /// The shared budget had nothing left.
    Budget,
    /// The failure asked to be left alone for longer than this retry waits.
    LongHint,
    /// The request could not be repeated.
    Request,
    /// The service failed to become ready for the next attempt. The caller gets that error.
    NotReady,
}

impl GaveUp {
    /// The reason in kebab case, for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::TotalTime => "total-time",
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
