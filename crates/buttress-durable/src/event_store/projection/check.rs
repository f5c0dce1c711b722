//! [`ProjectionCheck`]: the age of projections as a health check.

use std::fmt;
use std::time::Duration;

use buttress::health::{Finding, Watch};

use crate::event_store::checkpoint::ProjectionState;
use crate::event_store::recorded::StoreStats;
use crate::event_store::store::Store;

/// A health check of the projections in a store, of all processes.
///
/// It is DEGRADED while the oldest event that a projection has not handled is too old, and while an event waits too long
/// for its position. It is DOWN while the store does not answer. Each run queries the store twice.
#[must_use]
pub struct ProjectionCheck<St> {
    store: St,
    oldest_age: Duration,
}

impl<St: Store> ProjectionCheck<St> {
    /// Creates a check of `store` with the default limit.
    pub const fn new(store: St) -> Self {
        Self { store, oldest_age: Duration::from_secs(60) }
    }

    /// Sets how old an event may be that is not handled, or has no position. Default: 60 s, which is four leases: a
    /// projection whose process crashed has continued by then.
    pub const fn oldest_age(mut self, age: Duration) -> Self {
        self.oldest_age = age;
        self
    }

    fn judge(&self, states: &[ProjectionState], stats: StoreStats) -> Finding {
        let old = states.iter().filter(|state| state.age > self.oldest_age).map(|state| {
            let ProjectionState { name, lag, age, .. } = state;
            format!("projection {name}: {lag} events behind, the oldest is {} s old", age.as_secs())
        });
        let unsequenced = stats.unsequenced_age;
        let waiting = (unsequenced > self.oldest_age).then(|| {
            format!("an event has been without a position for {} s", unsequenced.as_secs())
        });
        let reasons: Vec<String> = old.chain(waiting).collect();
        if reasons.is_empty() { Finding::up() } else { Finding::degraded(reasons.join("; ")) }
    }
}

impl<St: Store> Watch for ProjectionCheck<St> {
    async fn look(&self) -> Finding {
        let states = match self.store.projections().await {
            Ok(states) => states,
            Err(error) => return Err::<(), _>(error).into(),
        };
        match self.store.event_stats().await {
            Ok(stats) => self.judge(&states, stats),
            Err(error) => Err::<(), _>(error).into(),
        }
    }
}

impl<St> fmt::Debug for ProjectionCheck<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectionCheck")
            .field("oldest_age", &self.oldest_age)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::event_store::memory::MemoryStore;
    use crate::event_store::stream::Position;

    #[test]
    fn each_limit_is_the_last_age_that_is_up() {
        let check = ProjectionCheck::new(MemoryStore::new(buttress::Clock::default()));
        let state = |name, lag, age| ProjectionState {
            lag,
            age: Duration::from_millis(age),
            ..ProjectionState::new(name, Position::START, Position::START)
        };
        let stats =
            |age| StoreStats::new(Position::new(9)).unsequenced_age(Duration::from_millis(age));
        let states = [state("list", 3, 60_000), state("totals", 0, 0)];
        assert_eq!(check.judge(&states, stats(60_000)), Finding::up());
        let old = "projection list: 3 events behind, the oldest is 60 s old";
        assert_eq!(check.judge(&[state("list", 3, 60_001)], stats(0)), Finding::degraded(old));
        let both = format!("{old}; an event has been without a position for 61 s");
        let judged = check.judge(&[state("list", 3, 60_001)], stats(61_000));
        assert_eq!(judged, Finding::degraded(both));
    }
}
