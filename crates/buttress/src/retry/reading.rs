//! Reports the numbers of a retry to a sampler.

use super::handle::Handle;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let (stats, layer) = (self.stats(), [self.shared.common.layer().as_str()]);
        reading.add_count(&all::RETRY_NOT_MADE, layer, stats.not_made);
        if let Some(calls) = stats.calls {
            reading.add_count(&all::RETRY_CALLS, layer, calls);
        }
        if let Some(balance) = self.balance() {
            reading.add_count(&all::RETRY_BUDGET, layer, balance);
        }
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.shared.common.register();
    }
}
