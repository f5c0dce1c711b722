//! The ready-made checks of circuits and bulkheads.

use std::future::ready;

use super::check::Watch;
use super::finding::Finding;
use crate::vocabulary::observe::CircuitState;
use crate::{bulkhead, circuit_breaker};

/// DEGRADED while the circuit refuses calls or probes. A circuit that an operator disabled, or set to
/// metrics only, is UP with a text.
impl Watch for circuit_breaker::Handle {
    fn look(&self) -> impl Future<Output = Finding> + Send {
        ready(match self.state() {
            CircuitState::Closed => Finding::up(),
            state @ (CircuitState::Disabled | CircuitState::MetricsOnly) => {
                Finding::up().with_text(format!("the circuit is {state}"))
            }
            state => Finding::degraded(format!("the circuit is {state}")),
        })
    }
}

/// DEGRADED while every permit is in use, and while calls wait for one.
impl Watch for bulkhead::Handle {
    fn look(&self) -> impl Future<Output = Finding> + Send {
        let stats = self.stats();
        let (active, most, queued) = (stats.active, stats.max_concurrent, stats.queued);
        ready(if active >= most || queued > 0 {
            Finding::degraded(format!(
                "permits in use: {active} of {most}; waiting calls: {queued}"
            ))
        } else {
            Finding::up()
        })
    }
}
