//! Reports the numbers of a split to a sampler.

use super::handle::Handle;
use super::state::Side;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let (stats, name) = (self.stats(), self.shared.common.layer().as_str());
        reading.add(&all::SPLIT_SHARE, [name], stats.share);
        reading.add_count(&all::SPLIT_FELL_BACK, [name], stats.fell_back);
        for (side, calls) in Side::ALL.iter().zip([stats.old, stats.new]) {
            if let Some(calls) = calls {
                reading.add_count(&all::SPLIT_CALLS, [name, side.as_str()], calls);
            }
        }
        if let Some(forced) = stats.forced {
            reading.add_count(&all::SPLIT_FORCED, [name], forced);
        }
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.shared.common.register();
    }
}
