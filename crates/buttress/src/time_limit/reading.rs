//! Reports the numbers of a time limit to a sampler.

use super::handle::Handle;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let (stats, layer) = (self.stats(), [self.shared.common.layer().as_str()]);
        reading.add(&all::TIME_LIMIT_LIMIT, layer, stats.limit.as_secs_f64());
        if let Some(calls) = stats.calls {
            reading.add_count(&all::TIME_LIMIT_CALLS, layer, calls);
        }
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.shared.common.register();
    }
}
