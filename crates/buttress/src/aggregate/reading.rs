//! Reports the numbers of an aggregate to a sampler.

use super::handle::Handle;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::observe::Absence;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let (stats, name) = (self.stats(), self.shared.common.layer().as_str());
        reading.add_count(&all::AGGREGATE_PARTIAL, [name], stats.partial);
        reading.add_count(&all::AGGREGATE_FAILED, [name], stats.failed);
        if let Some(calls) = stats.calls {
            reading.add_count(&all::AGGREGATE_CALLS, [name], calls);
        }
        for counted in &self.shared.parts {
            let part = counted.part.name.as_str();
            for reason in Absence::ALL {
                let labels = [name, part, reason.as_str()];
                reading.add_count(&all::AGGREGATE_MISSING, labels, counted.count(*reason));
            }
        }
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.shared.common.register();
    }
}
