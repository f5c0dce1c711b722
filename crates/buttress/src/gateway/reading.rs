//! Reports the numbers of a gateway and its routes to a sampler.

use std::borrow::Cow;

use super::handle::Handle;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let layer = self.counted.common.layer().as_str();
        for stats in self.stats().routes {
            let route = stats.name.as_str();
            let ends = [
                ("answered", stats.answered),
                ("failed", stats.failed),
                ("unauthenticated", stats.unauthenticated),
                ("forbidden", stats.forbidden),
                ("auth-unavailable", stats.auth_unavailable),
                ("rate-limited", stats.rate_limited),
                ("no-backend", stats.no_backend),
                ("timed-out", stats.timed_out),
                ("abandoned", stats.abandoned),
            ];
            for (outcome, requests) in ends {
                reading.add_count(&all::GATEWAY_REQUESTS, [layer, route, outcome], requests);
            }
            reading.add_count(&all::GATEWAY_RUNNING, [layer, route], stats.in_flight());
            for (number, requests) in stats.backends.iter().enumerate() {
                let labels = [Cow::from(layer), route.into(), number.to_string().into()];
                reading.add_count(&all::GATEWAY_BACKEND, labels, *requests);
            }
        }
        self.parts().for_each(|part| part.read(reading));
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.counted.common.register();
        self.counted.routes.iter().for_each(|route| route.common.register());
        self.parts().for_each(Source::register);
    }
}

impl Handle {
    fn parts(&self) -> impl Iterator<Item = &dyn Source> {
        self.counted.routes.iter().flat_map(|route| {
            let rate_limit = route.rate_limit.as_ref().map(|part| part as &dyn Source);
            rate_limit.into_iter().chain(route.time_limit.as_ref().map(|part| part as &dyn Source))
        })
    }
}
