//! The metrics of a projection, for a sampler.

use buttress::telemetry::{Reading, Source};

use super::handle::ProjectionHandle;
use crate::metric_names as all;

impl Source for ProjectionHandle {
    fn read(&self, reading: &mut Reading) {
        let (stats, shared) = (self.stats(), &self.shared);
        let is_stopped = u64::from(self.stopped().is_some());
        for (instrument, number) in [
            (&all::PROJECTION_HANDLED, stats.handled),
            (&all::PROJECTION_BATCHES, stats.batches),
            (&all::PROJECTION_FAILED, stats.failed),
            (&all::PROJECTION_SKIPPED, stats.skipped),
            (&all::PROJECTION_PARKED, stats.parked),
            (&all::PROJECTION_FENCED, stats.fenced),
            (&all::PROJECTION_OPERATIONS, stats.failed_operations),
            (&all::PROJECTION_LEASED, u64::from(stats.is_leased)),
            (&all::PROJECTION_STOPPED, is_stopped),
            (&all::PROJECTION_PAUSED, u64::from(self.is_paused())),
        ] {
            let labels = [shared.layer.as_str().to_owned(), shared.name.as_ref().to_owned()];
            reading.add_count(instrument, labels, number);
        }
    }
}
