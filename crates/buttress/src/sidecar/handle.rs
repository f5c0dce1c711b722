use std::fmt;
use std::sync::Arc;

use crate::machinery::counters::{Counters, counters};
use crate::sync::{AtomicU64, Ordering};
use crate::vocabulary::error::{Error, ErrorKind};
use crate::vocabulary::name::Name;
use crate::vocabulary::reading::snapshot;
use crate::{circuit_breaker, rate_limit, retry, time_limit};

counters! {
    /// The counters of a sidecar: how many requests began, and their ends.
    pub(super) enum Counter {
        Begun,
        Succeeded,
        Failed,
        Ignored,
        TimedOut,
        RateLimited,
        CircuitOpen,
        Abandoned,
    }
}

impl Counter {
    /// Returns the counter of a request that a part stopped.
    pub(super) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::DeadlineExceeded => Self::TimedOut,
            ErrorKind::RateLimited => Self::RateLimited,
            // No other part refuses.
            _ => Self::CircuitOpen,
        }
    }
}

/// The state that the services of one layer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub name: Name,
    pub rate_limit: Option<rate_limit::Handle>,
    pub circuit_breaker: circuit_breaker::Handle,
    pub retry: retry::Handle,
    pub time_limit: time_limit::Handle,
    pub counters: Counters<Counter>,
    /// Attempts that the retry made and the gate refused.
    pub stopped_retries: AtomicU64,
}

impl Shared {
    pub(super) fn begin(self: &Arc<Self>) -> Request {
        self.counters.add(Counter::Begun);
        Request { shared: Some(self.clone()) }
    }

    /// Counts an attempt that the circuit refused after the retry had made it.
    pub(super) fn stopped_a_retry(&self) {
        self.stopped_retries.fetch_add(1, Ordering::Relaxed);
    }
}

/// One request, counted once: by its end, or as abandoned.
#[derive(Debug)]
pub(super) struct Request {
    /// `None` once counted.
    shared: Option<Arc<Shared>>,
}

impl Request {
    pub(super) fn end(&mut self, end: Counter) {
        if let Some(shared) = self.shared.take() {
            shared.counters.add(end);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.end(Counter::Abandoned);
    }
}

/// The handle of a sidecar and its parts, for operators. Cheap to clone.
///
/// All clones, and every service of the layer, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Returns the handle of the limiter. `None` if the sidecar has no limiter.
    #[must_use]
    pub fn rate_limit(&self) -> Option<&rate_limit::Handle> {
        self.shared.rate_limit.as_ref()
    }

    /// Returns the handle of the circuit breaker.
    #[must_use]
    pub fn circuit_breaker(&self) -> &circuit_breaker::Handle {
        &self.shared.circuit_breaker
    }

    /// Returns the handle of the retry.
    #[must_use]
    pub fn retry(&self) -> &retry::Handle {
        &self.shared.retry
    }

    /// Returns the handle of the time limit of an attempt.
    #[must_use]
    pub fn time_limit(&self) -> &time_limit::Handle {
        &self.shared.time_limit
    }

    /// Returns a snapshot of the statistics. While no request runs, they add up: `requests = succeeded +
    /// failed + ignored + timed_out + rate_limited + circuit_open + abandoned`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let sum = |end: Counter| self.shared.counters.sum(end);
        // Read before the counter of the retry, which is raised first.
        let stopped = self.shared.stopped_retries.load(Ordering::Relaxed);
        let retry = self.shared.retry.stats();
        Stats {
            succeeded: sum(Counter::Succeeded),
            failed: sum(Counter::Failed),
            ignored: sum(Counter::Ignored),
            timed_out: sum(Counter::TimedOut),
            rate_limited: sum(Counter::RateLimited),
            circuit_open: sum(Counter::CircuitOpen),
            abandoned: sum(Counter::Abandoned),
            // Read last, so that no request is seen to end before it began.
            requests: self.shared.counters.sum(Counter::Begun),
            retries: retry.retries.saturating_sub(stopped),
            retries_not_made: retry.not_made.saturating_add(stopped),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.shared.name)
            .field("stats", &self.stats())
            .finish()
    }
}

snapshot! {
    /// A snapshot of a sidecar.
    pub struct Stats: Copy + Eq {
        /// Requests that arrived.
        pub requests: u64,
        /// Requests that ended with an answer that the classifier judges as a success.
        pub succeeded: u64,
        /// Requests that ended with an answer that the classifier judges as a failure, or whose service
        /// failed to become ready.
        pub failed: u64,
        /// Requests that ended with an answer that the classifier ignores.
        pub ignored: u64,
        /// Requests that ended at the time limit of their last attempt.
        pub timed_out: u64,
        /// Requests that the limiter refused.
        pub rate_limited: u64,
        /// Requests that the circuit refused, before the first attempt or a later one.
        pub circuit_open: u64,
        /// Requests that the caller dropped before their end, or that panicked.
        pub abandoned: u64,
        /// Attempts after the first, of all requests.
        pub retries: u64,
        /// Further attempts that were decided on but not made: the circuit refused them, the service
        /// failed to become ready, or the caller dropped the request first.
        pub retries_not_made: u64,
    }
}
