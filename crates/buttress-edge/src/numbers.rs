//! The numbers of a route. Every request that begins ends in exactly one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Requests that the proxy refused, because of their body or because they loop.
    pub refused: u64,
    /// Requests whose client left before the end of the answer.
    pub abandoned: u64,
    /// Requests that have not ended.
    pub in_flight: u64,
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
