use std::sync::Arc;

use super::config::Config;
use super::shared::{Counter, Shared};
use crate::machinery::reconfigure::{Reconfigure as _, operated};
use crate::sync::lock;
use crate::vocabulary::reading::snapshot;

/// The handle of a retry, for operators. Cheap to clone.
///
/// All clones, and every service of the layer, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Returns how many retries the [budget](super::Budget) has left now. `None` without a budget.
    #[must_use]
    pub fn balance(&self) -> Option<u64> {
        let now = self.shared.now();
        self.shared.budget.as_ref().map(|budget| budget.balance(now))
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        Stats {
            attempts: lock(&shared.policy).attempts,
            retries: shared.counters.sum(Counter::Retries),
            not_made: shared.counters.sum(Counter::NotMade),
            exhausted: shared.counters.sum(Counter::Exhausted),
            calls: shared.common.count_calls.then(|| shared.counters.sum(Counter::Calls)),
        }
    }
}

operated! {
    /// Replaces attempts, backoff and times with the values of `config`, for failures from now on.
    /// The budget and the source of jitter stay.
    ///
    /// # Errors
    /// Returns the errors of [`RetryLayer::new`](super::RetryLayer::new). Nothing changes then.
    pub fn reconfigure(&self, config: &Config);
}

snapshot! {
    /// A snapshot of a retry.
    pub struct Stats: Copy + Eq {
        /// The configured number of attempts.
        pub attempts: u32,
        /// Attempts after the first. The retry called the service once for each of them.
        pub retries: u64,
        /// Further attempts that were decided on but not made: the caller dropped the call first, or
        /// the service did not become ready.
        pub not_made: u64,
        /// Calls that ended with a failure that was worth another attempt.
        pub exhausted: u64,
        /// The number of calls that have begun. `None` unless [`count_calls`](super::Config::count_calls) is on.
        pub calls: Option<u64>,
    }
}
