//! Reports the numbers of a bulkhead to a sampler.

use super::handle::Handle;
use super::keyed::KeyedHandle;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::reading::{Reading, Source, keyed_source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let (stats, layer) = (self.stats(), [self.shared.telemetry.common.layer().as_str()]);
        reading.add(&all::BULKHEAD_USED, layer, f64::from(stats.active));
        reading.add(&all::BULKHEAD_LIMIT, layer, f64::from(stats.max_concurrent));
        reading.add_count(&all::BULKHEAD_WAITING, layer, stats.queued as u64);
        reading.add_counted(&all::BULKHEAD_ADMITTED, layer[0], stats.admitted);
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.shared.telemetry.common.register();
    }
}

keyed_source!(Bulkhead, admitted => BULKHEAD_ADMITTED,);
