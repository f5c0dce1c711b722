//! Reports the numbers of a shadow to a sampler.

use super::handle::Handle;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let (stats, name) = (self.stats(), self.shared.common.layer().as_str());
        reading.add(&all::SHADOW_SHARE, [name], stats.share);
        reading.add_count(&all::SHADOW_RUNNING, [name], stats.running);
        let calls = [
            ("same", stats.same),
            ("different", stats.different),
            ("incomparable", stats.incomparable),
            ("not-compared", stats.not_compared),
            ("timed-out", stats.timed_out),
            ("panicked", stats.panicked),
            ("abandoned", stats.abandoned),
        ];
        for (end, count) in calls {
            reading.add_count(&all::SHADOW_ENDS, [name, end], count);
        }
        reading.add_count(&all::SHADOW_MIRRORED, [name], stats.mirrored);
        reading.add_count(&all::SHADOW_DROPPED, [name], stats.dropped);
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.shared.common.register();
    }
}
