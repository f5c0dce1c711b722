//! Reports the numbers of a fallback to a sampler.

use super::handle::Handle;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        if let Some(calls) = self.stats().calls {
            let layer = self.shared.common.layer().as_str();
            reading.add_count(&all::FALLBACK_CALLS, [layer], calls);
        }
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.shared.common.register();
    }
}
