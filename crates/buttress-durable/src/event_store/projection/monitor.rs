//! [`ProjectionMonitor`]: reports the lag of projections to a sampler.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use buttress::Name;
use buttress::telemetry::{Reading, Refresh, Source};

use crate::event_store::checkpoint::ProjectionState;
use crate::event_store::recorded::StoreStats;
use crate::event_store::store::Store;
use crate::metric_names as all;
use crate::refreshed::Refreshed;

/// A source of the numbers of a store of events and of its projections, for a
/// [`Sampler`](buttress::telemetry::Sampler).
///
/// It reports how many events each projection has not handled, how old the first of them is, the last position, and how
/// old the oldest event without a position is. A refresh queries the store twice. Before the first refresh that succeeds
/// there are no gauges. Refreshes that fail are counted. All processes see one store: watch it in one of them, or
/// aggregate with `max`.
pub struct ProjectionMonitor<St> {
    layer: Name,
    store: St,
    stats: Refreshed<StoreStats>,
    states: Mutex<Vec<ProjectionState>>,
}

impl<St: Store> ProjectionMonitor<St> {
    /// Creates a monitor of `store`, whose metrics have the label `layer`.
    pub fn new(layer: impl Into<Name>, store: St) -> Self {
        let (stats, states) = (Refreshed::default(), Mutex::default());
        Self { layer: layer.into(), store, stats, states }
    }
}

impl<St: Store> Source for ProjectionMonitor<St> {
    fn read(&self, reading: &mut Reading) {
        let layer = self.layer.as_str();
        reading.add_count(&all::EVENTS_REFRESH_FAILED, [layer], self.stats.failed());
        let Some(stats) = self.stats.last() else { return };
        reading.add_count(&all::EVENTS_LAST, [layer], stats.last);
        reading.add(&all::EVENTS_UNSEQUENCED, [layer], stats.unsequenced_age.as_secs_f64());
        for state in &*self.states.lock().unwrap_or_else(PoisonError::into_inner) {
            let labels = || [layer.to_owned(), state.name.clone()];
            reading.add_count(&all::PROJECTION_LAG, labels(), state.lag);
            reading.add(&all::PROJECTION_AGE, labels(), state.age.as_secs_f64());
        }
    }

    fn refresh(&self) -> Refresh<'_> {
        Box::pin(async move {
            let asked = async {
                let states = self.store.projections().await?;
                Ok((self.store.event_stats().await?, states))
            };
            match asked.await {
                Ok((stats, states)) => {
                    *self.states.lock().unwrap_or_else(PoisonError::into_inner) = states;
                    self.stats.take_in(Ok(stats))
                }
                Err(error) => self.stats.take_in(Err(error)),
            }
        })
    }
}

impl<St> fmt::Debug for ProjectionMonitor<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectionMonitor").field("layer", &self.layer).finish_non_exhaustive()
    }
}
