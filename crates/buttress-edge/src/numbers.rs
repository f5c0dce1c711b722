//! The numbers of routes and backends. Every request that begins ends in exactly one of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::body::{End, Watch};

/// The numbers of a route. `begun` is the sum of all others.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RouteStats {
    /// Requests that found the route.
    pub begun: u64,
    /// Requests whose client has the whole answer of a backend, whatever its status.
    pub answered: u64,
    /// Requests that a backend failed: it did not answer, or its answer broke off.
    pub failed: u64,
    /// Requests that the proxy refused: their body is too large or too slow, they loop, a limit of the
    /// route refused them, no backend took them, or they began during a drain.
    pub refused: u64,
    /// Requests whose client left before the end of the answer, or sent a malformed body (400).
    pub abandoned: u64,
    /// Requests that have not ended.
    pub in_flight: u64,
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
    /// Requests that the backend failed: it could not be connected to, did not answer, or its answer broke off.
    pub failed: u64,
    /// Requests whose body was too large or too slow, after the backend got a part of them.
    pub refused: u64,
    /// Requests whose client left before the end of the answer or sent a malformed body, and attempts that the time limit
    /// of a route ended.
    pub abandoned: u64,
    /// Requests that have not ended.
    pub in_flight: u64,
}

impl From<RouteStats> for BackendStats {
    fn from(stats: RouteStats) -> Self {
        let RouteStats { begun, answered, failed, refused, abandoned, in_flight } = stats;
        Self { begun, answered, failed, refused, abandoned, in_flight }
    }
}

/// The counters of the backends of an upstream, by id. A backend keeps its counters; the roster only finds them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster(Arc<Mutex<BTreeMap<String, Weak<Counters>>>>);

impl Roster {
    /// Returns the counters of a backend. One that has not quite left the set yet, and comes back, keeps its counters.
    pub(crate) fn join(&self, id: &str) -> Arc<Counters> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, counters| counters.strong_count() > 0);
        if let Some(counters) = known.get(id).and_then(Weak::upgrade) {
            return counters;
        }
        let counters = Arc::default();
        known.insert(id.to_owned(), Arc::downgrade(&counters));
        counters
    }

    pub(crate) fn stats(&self) -> Vec<(String, BackendStats)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = known
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
    Refused,
    Abandoned,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    begun: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    abandoned: AtomicU64,
}

impl Counters {
    pub(crate) fn stats(&self) -> RouteStats {
        // Ends are read before begins, so that no request has ended before it began.
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let (answered, failed) = (read(&self.answered), read(&self.failed));
        let (refused, abandoned) = (read(&self.refused), read(&self.abandoned));
        let begun = read(&self.begun);
        let in_flight = begun.saturating_sub(answered + failed + refused + abandoned);
        RouteStats { begun, answered, failed, refused, abandoned, in_flight }
    }
}

/// A request that has begun. Dropping it counts the request as abandoned.
#[derive(Debug)]
pub(crate) struct Tally {
    /// `None` once the request is counted.
    counters: Option<Arc<Counters>>,
}

impl Tally {
    pub(crate) fn begin(counters: &Arc<Counters>) -> Self {
        counters.begun.fetch_add(1, Ordering::Relaxed);
        Self { counters: Some(Arc::clone(counters)) }
    }

    pub(crate) fn end(&mut self, ended: Ended) {
        let Some(counters) = self.counters.take() else { return };
        let counter = match ended {
            Ended::Answered => &counters.answered,
            Ended::Failed => &counters.failed,
            Ended::Refused => &counters.refused,
            Ended::Abandoned => &counters.abandoned,
        };
        // A reader that sees this end sees its begin.
        counter.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.end(Ended::Abandoned);
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
