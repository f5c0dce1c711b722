//! Reports the numbers of a rate limiter to a sampler.

use std::hash::Hash;

use super::handle::Handle;
use super::keyed::{KeyedHandle, Rules};
use crate::vocabulary::metric_names as all;
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let (stats, layer) = (self.stats(), [self.shared.common.layer().as_str()]);
        reading.add(&all::RATE_LIMIT_AVAILABLE, layer, f64::from(stats.available));
        reading.add(&all::RATE_LIMIT_LIMIT, layer, f64::from(stats.max_tokens));
        reading.add_count(&all::RATE_LIMIT_WAITING, layer, stats.queued as u64);
        reading.add_counted(&all::RATE_LIMIT_ADMITTED, layer[0], stats.admitted);
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.shared.common.register();
    }
}

impl<K, P> Source for KeyedHandle<K, P>
where
    K: Hash + Eq + Clone + Send + Sync,
    P: Rules<K> + Send + Sync,
    P::Entry: Send,
    P::Table: Send + Sync,
{
    fn read(&self, reading: &mut Reading) {
        let (stats, layer) = (self.stats(), self.common().layer());
        reading.add_keys(layer, Pattern::RateLimit, stats.keys, stats.max_keys);
        reading.add_counted(&all::RATE_LIMIT_ADMITTED, layer.as_str(), stats.admitted);
        self.read_plans(reading);
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.common().register();
    }
}
