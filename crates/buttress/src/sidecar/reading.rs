//! Reports the numbers of a sidecar and its parts to a sampler.

use super::handle::Handle;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let layer = match self.shared.name.as_str() {
            "" => "sidecar",
            name => name,
        };
        let stats = self.stats();
        let ends = [
            ("succeeded", stats.succeeded),
            ("failed", stats.failed),
            ("ignored", stats.ignored),
            ("timed-out", stats.timed_out),
            ("rate-limited", stats.rate_limited),
            ("circuit-open", stats.circuit_open),
            ("abandoned", stats.abandoned),
        ];
        let mut ended = 0;
        for (outcome, requests) in ends {
            ended += requests;
            reading.add_count(&all::SIDECAR_REQUESTS, [layer, outcome], requests);
        }
        let running = stats.requests.saturating_sub(ended);
        reading.add_count(&all::SIDECAR_RUNNING, [layer], running);
        self.parts().for_each(|part| part.read(reading));
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.parts().for_each(Source::register);
    }
}

impl Handle {
    fn parts(&self) -> impl Iterator<Item = &dyn Source> {
        let rate_limit = self.rate_limit().map(|part| part as &dyn Source);
        let always: [&dyn Source; 3] = [self.circuit_breaker(), self.retry(), self.time_limit()];
        rate_limit.into_iter().chain(always)
    }
}
