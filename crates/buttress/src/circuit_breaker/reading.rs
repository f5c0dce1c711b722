//! Reports the numbers of a circuit breaker to a sampler.

use super::handle::Handle;
use super::keyed::KeyedHandle;
use crate::vocabulary::metric_names as all;
use crate::vocabulary::observe::CircuitState;
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::reading::{Reading, Source, keyed_source};

impl Source for Handle {
    fn read(&self, reading: &mut Reading) {
        let (stats, name) = (self.stats(), self.shared.telemetry.common.layer().as_str());
        let layer = [name];
        for state in CircuitState::ALL {
            let is_in = u64::from(*state == stats.state);
            reading.add_count(&all::CIRCUIT_STATE, [name, state.as_str()], is_in);
        }
        reading.add_count(&all::CIRCUIT_WINDOW_CALLS, layer, stats.window_calls);
        reading.add_count(&all::CIRCUIT_WINDOW_FAILURES, layer, stats.window_failures);
        reading.add_count(&all::CIRCUIT_WINDOW_SLOW, layer, stats.window_slow);
        reading.add_count(&all::CIRCUIT_FAILURES, layer, stats.failures);
        reading.add_counted(&all::CIRCUIT_ADMITTED, layer[0], stats.admitted);
        reading.add_counted(&all::CIRCUIT_SUCCESSES, layer[0], stats.successes);
    }

    #[cfg(feature = "metrics")]
    fn register(&self) {
        self.shared.telemetry.common.register();
    }
}

keyed_source!(
    CircuitBreaker,
    failures => CIRCUIT_FAILURES,
    admitted => CIRCUIT_ADMITTED,
    successes => CIRCUIT_SUCCESSES,
);
