//! Reports the numbers of an idempotency layer to a sampler.

use super::handle::Handle;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let (stats, layer) = (self.stats(), [self.common().layer().as_str()]);
        reading.add_count(&all::IDEMPOTENCY_STARTED, layer, stats.started);
        reading.add_count(&all::IDEMPOTENCY_WAITED, layer, stats.waited);
        reading.add_count(&all::IDEMPOTENCY_FAILED, layer, stats.failed);
        reading.add_count(&all::IDEMPOTENCY_UNPROTECTED, layer, stats.unprotected);
        reading.add_count(&all::IDEMPOTENCY_RUNNING, layer, stats.in_flight as u64);
        reading.add_count(&all::IDEMPOTENCY_WAITING, layer, stats.waiting as u64);
        reading.add(&all::IDEMPOTENCY_DETACHED, layer, f64::from(stats.detached));
        if let Some(passed) = stats.passed {
            reading.add_count(&all::IDEMPOTENCY_PASSED, layer, passed);
        }
        if let Some(held) = stats.store {
            reading.add_count(&all::IDEMPOTENCY_CLAIMS, layer, held.in_flight as u64);
            reading.add_count(&all::IDEMPOTENCY_RESULTS, layer, held.stored as u64);
            reading.add_count(&all::IDEMPOTENCY_EVICTED, layer, held.evicted);
        }
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.common().register();
    }
}
