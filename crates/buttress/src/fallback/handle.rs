use std::fmt;
use std::sync::Arc;

use super::shared::{Counter, Shared};
use crate::vocabulary::reading::snapshot;

/// The handle of a fallback, which reports its numbers. Cheap to clone.
///
/// All clones, and every service of the layer, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        Stats {
            used: shared.counters.sum(Counter::Used),
            failed: shared.counters.sum(Counter::Failed),
            calls: shared.common.count_calls.then(|| shared.counters.sum(Counter::Calls)),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.shared.common.name)
            .field("stats", &self.stats())
            .finish()
    }
}

snapshot! {
    /// A snapshot of a fallback.
    pub struct Stats: Copy + Eq {
        /// Calls that failed and were passed to the fallback.
        pub used: u64,
        /// Calls whose fallback failed too. They are counted in [`used`](Self::used) as well.
        pub failed: u64,
        /// The number of calls that have begun. `None` unless [`count_calls`](super::Config::count_calls) is on.
        pub calls: Option<u64>,
    }
}
