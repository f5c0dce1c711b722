//! Reports the numbers of a balancer to a sampler.

use super::handle::Handle;
use super::state::EndpointState;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::reading::{Reading, Source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let (stats, name) = (self.stats(), self.shared.common.layer().as_str());
        let layer = [name];
        let states = [stats.endpoints_in, stats.ejected, stats.resting, stats.down];
        for (state, count) in EndpointState::ALL.iter().zip(states) {
            reading.add_count(&all::BALANCE_ENDPOINTS, [name, state.as_str()], count as u64);
        }
        reading.add_count(&all::BALANCE_PENDING, layer, stats.pending);
        reading.add_count(&all::BALANCE_PANICKED, layer, stats.panicked);
        reading.add_count(&all::BALANCE_FAILURES, layer, stats.failures);
        reading.add_count(&all::BALANCE_EJECTIONS, layer, stats.ejections);
        reading.add_count(&all::BALANCE_SPARED, layer, stats.spared);
        reading.add_count(&all::BALANCE_NOT_READY, layer, stats.not_ready);
        reading.add_count(&all::BALANCE_CHANGES, layer, stats.changes);
        if let Some(calls) = stats.calls {
            reading.add_count(&all::BALANCE_CALLS, layer, calls);
        }
        if let Some(resolver) = stats.resolver {
            reading.add(&all::BALANCE_RESOLVER_AGE, layer, resolver.age.as_secs_f64());
            reading.add_count(&all::BALANCE_RESOLVER_FAILED, layer, stats.resolve_failed);
        }
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.shared.common.register();
    }
}
