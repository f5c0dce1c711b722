use std::fmt;
use std::sync::Arc;

use super::shared::{Counted, Counter, Shared};
use crate::time_limit;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::Absence;
use crate::vocabulary::reading::snapshot;

/// The handle of an aggregate, for operators. Cheap to clone.
///
/// All clones, and every clone of the aggregate, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Returns the handle of the time limit, which an operator can change while calls run.
    #[must_use]
    pub fn time_limit(&self) -> time_limit::Handle {
        self.shared.limit.clone()
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        Stats {
            calls: shared.common.count_calls.then(|| shared.counters.sum(Counter::Calls)),
            partial: shared.counters.sum(Counter::Partial),
            failed: shared.counters.sum(Counter::Failed),
            parts: shared.parts.iter().map(PartStats::of).collect(),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.shared.common.name;
        f.debug_struct("Handle").field("name", name).field("stats", &self.stats()).finish()
    }
}

snapshot! {
    /// A snapshot of an aggregate.
    pub struct Stats: Eq {
        /// The number of calls that have begun. `None` unless [`count_calls`](super::Config::count_calls) is on.
        pub calls: Option<u64>,
        /// Calls answered without all of their optional parts.
        pub partial: u64,
        /// Calls that ended with the error or the panic of a required part, or at their time limit.
        pub failed: u64,
        /// The parts, in the order of the definition.
        pub parts: Vec<PartStats>,
    }
}

snapshot! {
    /// A snapshot of one part: the calls for which it had no value, by reason.
    ///
    /// A part that was dropped because a required part had failed is not counted.
    pub struct PartStats: Copy + Eq {
        /// The name of the part.
        pub name: Name,
        /// `true` if there is no answer without the part.
        pub required: bool,
        /// Calls whose service returned an error.
        pub failed: u64,
        /// Calls that had the service, and were open at the time limit. Of several open required parts, the first one.
        pub timed_out: u64,
        /// Calls whose service did not become ready before the time limit.
        pub not_ready: u64,
        /// Calls whose service panicked.
        pub panicked: u64,
    }
}

impl PartStats {
    fn of(counted: &Counted) -> Self {
        Self {
            name: counted.part.name,
            required: counted.part.required,
            failed: counted.count(Absence::Failed),
            timed_out: counted.count(Absence::TimedOut),
            not_ready: counted.count(Absence::NotReady),
            panicked: counted.count(Absence::Panicked),
        }
    }
}
