//! The numbers of routes and backends. Every request that begins ends in exactly one of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use buttress::ErrorKind;

use crate::body::{End, Watch};

/// The numbers of a route. `begun` is the sum of all others.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouteStats {
    /// Requests that found the route.
    pub begun: u64,
    /// Requests whose client has the whole answer of a backend, or of the route's service, whatever its status.
    pub answered: u64,
    /// Requests that failed at a backend or the route's service: it did not answer, or its answer broke off.
    pub failed: u64,
    /// Requests that the proxy refused, by reason.
    pub refused: RefusedStats,
    /// Requests whose client left before the end of the answer, or sent a malformed body (400).
    pub abandoned: u64,
    /// Requests that have not ended.
    pub in_flight: u64,
}

/// Defines the reasons of refusals, each with its number.
macro_rules! refusals {
    ($($(#[$doc:meta])* $field:ident: $refusal:ident,)+) => {
        /// The requests that a route refused, by reason.
        #[non_exhaustive]
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct RefusedStats {
            $($(#[$doc])* pub $field: u64,)+
        }

        /// Why the proxy refused a request that had found its route.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Refusal {
            $($refusal,)+
        }

        impl Refusal {
            const COUNT: usize = [$(Self::$refusal),+].len();
        }

        impl RefusedStats {
            /// Returns the sum of all reasons.
            #[must_use]
            pub fn total(self) -> u64 {
                [$(self.$field),+].into_iter().sum()
            }

            fn read(counters: &[AtomicU64; Refusal::COUNT]) -> Self {
                Self { $($field: Refusal::$refusal.counter(counters).load(Ordering::Acquire),)+ }
            }
        }
    };
}

refusals! {
    /// The body is too large (413) or too slow (408), or the request names no target.
    bad_request: BadRequest,
    /// The request has passed the proxy too often (508).
    looped: Looped,
    /// The credentials are missing or invalid (401).
    unauthenticated: Unauthenticated,
    /// The credentials do not suffice (403).
    forbidden: Forbidden,
    /// The credentials cannot be checked (503).
    auth_unavailable: AuthUnavailable,
    /// The rate of the route or of the client is exceeded (429).
    rate_limited: RateLimited,
    /// No permit is free in time, too many clients are known, or no file descriptor is free (503).
    at_capacity: AtCapacity,
    /// The circuit of the route is open (503).
    circuit_open: CircuitOpen,
    /// No backend takes the request (503).
    no_endpoint: NoEndpoint,
    /// The listener drains (503).
    draining: Draining,
}

impl Refusal {
    #[expect(clippy::indexing_slicing, reason = "there is a counter for each variant")]
    fn counter(self, counters: &[AtomicU64; Self::COUNT]) -> &AtomicU64 {
        &counters[self as usize]
    }

    /// Returns the reason of a limit, or of a balancer.
    pub(crate) fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::RateLimited => Self::RateLimited,
            ErrorKind::BulkheadFull | ErrorKind::QueueTimeout | ErrorKind::TooManyKeys => {
                Self::AtCapacity
            }
            ErrorKind::CircuitOpen => Self::CircuitOpen,
            _ => Self::NoEndpoint,
        }
    }
}

/// The numbers of a backend. `begun` is the sum of all others. A request that is sent again to the same backend counts
/// once.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackendStats {
    /// Requests that the balancer gave to the backend.
    pub begun: u64,
    /// Requests whose client has the whole answer of the backend, whatever its status.
    pub answered: u64,
    /// Requests that failed at the backend: it could not be connected to, did not answer, its answer broke off, or was
    /// a reason for another attempt.
    pub failed: u64,
    /// Requests whose body was too large or too slow, after the backend got a part of the body. Also requests that
    /// found no free file descriptor for a connection.
    pub refused: u64,
    /// Requests whose client left before the end of the answer or sent a malformed body, and attempts that the time limit
    /// of a route ended.
    pub abandoned: u64,
    /// Requests that have not ended.
    pub in_flight: u64,
}

impl From<RouteStats> for BackendStats {
    fn from(stats: RouteStats) -> Self {
        let RouteStats { begun, answered, failed, abandoned, in_flight, .. } = stats;
        let refused = stats.refused.total();
        Self { begun, answered, failed, refused, abandoned, in_flight }
    }
}

/// The counters of the backends of an upstream, by id. A backend keeps its counters; the roster only finds them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster(Arc<Mutex<Known>>);

/// The backends by id, with those that have left since the last sweep.
#[derive(Debug, Default)]
struct Known {
    by_id: BTreeMap<String, Weak<Counters>>,
    /// The number of backends at which those that have left are removed.
    sweep_at: usize,
}

impl Roster {
    /// Returns the counters of a backend. A backend that comes back before it has left the set keeps its counters.
    pub(crate) fn join(&self, id: &str) -> Arc<Counters> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counters) = known.by_id.get(id).and_then(Weak::upgrade) {
            return counters;
        }
        // Not at each backend: a new set would cost the square of its size.
        if known.by_id.len() >= known.sweep_at {
            known.by_id.retain(|_, counters| counters.strong_count() > 0);
            known.sweep_at = known.by_id.len().max(16) * 2;
        }
        let counters = Arc::default();
        known.by_id.insert(id.to_owned(), Arc::downgrade(&counters));
        counters
    }

    pub(crate) fn stats(&self) -> Vec<(String, BackendStats)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = known
            .by_id
            .iter()
            .filter_map(|(id, counters)| Some((id.clone(), counters.upgrade()?.stats().into())));
        stats.collect()
    }
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    Answered,
    Failed,
    Refused(Refusal),
    Abandoned,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    begun: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    refused: [AtomicU64; Refusal::COUNT],
    abandoned: AtomicU64,
}

impl Counters {
    pub(crate) fn stats(&self) -> RouteStats {
        // Ends are read before begins, so that no request has ended before it began.
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let (answered, failed) = (read(&self.answered), read(&self.failed));
        let (refused, abandoned) = (RefusedStats::read(&self.refused), read(&self.abandoned));
        let begun = read(&self.begun);
        let ended = answered + failed + refused.total() + abandoned;
        let in_flight = begun.saturating_sub(ended);
        RouteStats { begun, answered, failed, refused, abandoned, in_flight }
    }
}

/// A request that has begun. Dropping it counts the request as abandoned, unless [`drops_as`](Self::drops_as) says
/// otherwise.
#[derive(Debug)]
pub(crate) struct Tally {
    /// `None` once the request is counted.
    counters: Option<Arc<Counters>>,
    dropped: Ended,
}

impl Tally {
    pub(crate) fn begin(counters: &Arc<Counters>) -> Self {
        counters.begun.fetch_add(1, Ordering::Relaxed);
        Self { counters: Some(Arc::clone(counters)), dropped: Ended::Abandoned }
    }

    /// Sets the end of a request that is dropped.
    pub(crate) fn drops_as(&mut self, ended: Ended) {
        self.dropped = ended;
    }

    pub(crate) fn end(&mut self, ended: Ended) {
        let Some(counters) = self.counters.take() else { return };
        let counter = match ended {
            Ended::Answered => &counters.answered,
            Ended::Failed => &counters.failed,
            Ended::Refused(refusal) => refusal.counter(&counters.refused),
            Ended::Abandoned => &counters.abandoned,
        };
        // A reader that sees this end sees its begin.
        counter.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.end(self.dropped);
    }
}

impl Watch for Tally {
    fn ended(&mut self, end: End) {
        self.end(match end {
            End::Whole => Ended::Answered,
            End::Failed => Ended::Failed,
            End::Dropped => Ended::Abandoned,
        });
    }
}
