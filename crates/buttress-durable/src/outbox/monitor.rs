//! [`Monitor`]: reports the backlog of an outbox to a sampler.

use std::fmt;

use buttress::Name;
use buttress::telemetry::{Reading, Refresh, Source};

use super::store::{Backlog, Store};
use crate::metric_names as all;
use crate::refreshed::Refreshed;

/// A source of the backlog of an outbox, for a [`Sampler`](buttress::telemetry::Sampler).
///
/// It reports how many messages wait in the store, how long the oldest has been due, and how many
/// are dead. A refresh queries the store once. Before the first refresh that succeeds there are no
/// gauges. Refreshes that fail are counted. All processes see one store: watch it in one of them, or
/// aggregate with `max`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use buttress::telemetry::Sampler;
/// use buttress_durable::outbox::{MemoryStore, Monitor};
/// let sampler = Sampler::new();
/// sampler.watch(Monitor::new("orders", MemoryStore::new(buttress::Clock::default())));
/// assert!(sampler.refresh().await.is_empty());
/// let backlog = sampler.read().value("buttress.outbox.backlog", &[("layer", "orders")]);
/// assert_eq!(backlog, Some(0.0));
/// # }
/// ```
pub struct Monitor<St> {
    layer: Name,
    store: St,
    numbers: Refreshed<Backlog>,
}

impl<St: Store> Monitor<St> {
    /// Creates a monitor of `store`, whose metrics have the label `layer`.
    pub fn new(layer: impl Into<Name>, store: St) -> Self {
        Self { layer: layer.into(), store, numbers: Refreshed::default() }
    }
}

impl<St: Store> Source for Monitor<St> {
    fn read(&self, reading: &mut Reading) {
        let layer = [self.layer.as_str()];
        reading.add_count(&all::OUTBOX_REFRESH_FAILED, layer, self.numbers.failed());
        let Some(backlog) = self.numbers.last() else { return };
        reading.add_count(&all::OUTBOX_BACKLOG, layer, backlog.pending);
        reading.add(&all::OUTBOX_OLDEST, layer, backlog.oldest_age.as_secs_f64());
        reading.add_count(&all::OUTBOX_DEAD, layer, backlog.dead);
        reading.add_count(&all::OUTBOX_HELD, layer, backlog.held_keys);
    }

    fn refresh(&self) -> Refresh<'_> {
        Box::pin(async move { self.numbers.take_in(self.store.backlog().await) })
    }
}

impl<St> fmt::Debug for Monitor<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("layer", &self.layer).finish_non_exhaustive()
    }
}
