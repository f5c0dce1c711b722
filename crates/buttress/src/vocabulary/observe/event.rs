//! [`Event`]: the events that layers report, and their parts.

use std::sync::Arc;
use std::time::Duration;

use crate::vocabulary::error::Error;
use crate::vocabulary::name::Name;
use crate::vocabulary::store_error::StoreErrorKind;
use crate::vocabulary::words::words;

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
}

words! {
    /// Returns the state in kebab case, for logs and metrics.
    CircuitState {
        Closed => "closed", Open => "open", HalfOpen => "half-open", ForcedOpen => "forced-open",
        Disabled => "disabled", MetricsOnly => "metrics-only",
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
    /// A balancer ejected an endpoint because the endpoint failed too often.
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
    /// The panic mode of a balancer began or ended. In panic mode no endpoint is in, and calls go to endpoints that are
    /// out.
    PanicChanged {
        /// `true` if panic mode began.
        panic: bool,
    },
    /// The resolver of a balancer failed, and the last set stays. Or an instance is left out of a set, because its stack
    /// could not be made.
    ResolveFailed {
        /// The kind of the failure.
        kind: StoreErrorKind,
    },
    /// A part of an aggregate has no value.
    PartMissing {
        /// The name of the part.
        part: Name,
        /// The reason.
        reason: Absence,
    },
    /// The old side of a split got a request that the new side did not answer.
    FellBackToOld,
    /// The answers of a primary and its mirror differ, and the mismatch is kept.
    AnswersDiffer {
        /// The difference.
        what: Arc<str>,
    },
    /// A change of the configuration took effect.
    Reconfigured,
}

/// The reason why a part of an aggregate has no value.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Absence {
    /// The service of the part returned an error.
    Failed,
    /// The service had the request and did not answer in time.
    TimedOut,
    /// The service did not become ready in time. It never got the request.
    NotReady,
    /// The service panicked.
    Panicked,
}

impl Absence {
    /// Every reason, in the order of declaration.
    pub const ALL: &'static [Self] =
        &[Self::Failed, Self::TimedOut, Self::NotReady, Self::Panicked];
}

words! {
    /// Returns the reason in kebab case, for logs and metrics.
    Absence {
        Failed => "failed", TimedOut => "timed-out", NotReady => "not-ready",
        Panicked => "panicked",
    }
}

/// The reason why a retry stopped although the failure was worth another attempt.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum GaveUp {
    /// Every permitted attempt was made.
    Attempts,
    /// The next attempt would begin at or after the end of the total time.
    TotalTime,
    /// The next attempt would begin at or after the deadline of the request.
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

words! {
    /// Returns the reason in kebab case, for logs.
    GaveUp {
        Attempts => "attempts", TotalTime => "total-time", Deadline => "deadline",
        Budget => "budget", LongHint => "long-hint", Request => "request", NotReady => "not-ready",
    }
}
