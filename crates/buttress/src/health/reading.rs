//! Reports the state of the checks to a sampler.

use super::finding::Status;
use super::handle::Health;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Health {
    fn read(&self, reading: &mut Reading) {
        let report = self.report();
        let layer = report.name.as_str();
        for status in Status::ALL {
            let is = |own: Status| u64::from(own == *status);
            reading.add_count(&all::HEALTH_STATE, [layer, status.label()], is(report.status));
            for check in &report.checks {
                let labels = [layer, check.name.as_str(), status.label()];
                reading.add_count(&all::HEALTH_CHECK_STATE, labels, is(check.status));
            }
        }
    }
}
