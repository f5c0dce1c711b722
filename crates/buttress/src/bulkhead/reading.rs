//! Reports the numbers of a bulkhead to a sampler.

use super::handle::Handle;
use super::keyed::KeyedHandle;
use crate::vocabulary::instruments as all;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let (stats, layer) = (self.stats(), [self.shared.telemetry.common.layer().as_str()]);
        reading.add(&all::BULKHEAD_USED, layer, f64::from(stats.active));
        reading.add(&all::BULKHEAD_LIMIT, layer, f64::from(stats.max_concurrent));
        reading.add_count(&all::BULKHEAD_WAITING, layer, stats.queued as u64);
        if let Some(admitted) = stats.admitted {
            reading.add_count(&all::BULKHEAD_ADMITTED, layer, admitted);
        }
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.shared.telemetry.common.register();
    }
}

impl<K: std::hash::Hash + Eq + Clone + Send + Sync> Source for KeyedHandle<K> {
    fn read(&self, reading: &mut Reading) {
        let (stats, layer) = (self.stats(), [self.common().layer().as_str(), "bulkhead"]);
        reading.add_count(&all::KEYED_KEYS, layer, stats.keys as u64);
        reading.add_count(&all::KEYED_LIMIT, layer, stats.max_keys as u64);
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.common().register();
    }
}
