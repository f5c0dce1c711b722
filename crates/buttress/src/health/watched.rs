//! The ready-made checks of circuits, bulkheads and balancers.

use std::future::ready;

use super::check::Watch;
use super::finding::Finding;
use crate::vocabulary::observe::CircuitState;
use crate::{balance, bulkhead, circuit_breaker};

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

/// DOWN while the set has no endpoint: each call fails. DEGRADED while every endpoint is out, while the resolver fails,
/// and while an instance is left out of the set. A set of which some endpoints are out is UP with a text.
impl Watch for balance::Handle {
    fn look(&self) -> impl Future<Output = Finding> + Send {
        let stats = self.stats();
        let (all, used) = (stats.endpoints, stats.endpoints_in);
        let failing = stats.resolver.filter(|resolver| resolver.failing > 0);
        let left_out = stats.resolver.map(|resolver| resolver.left_out).filter(|count| *count > 0);
        ready(if all == 0 {
            Finding::down("the set has no endpoint")
        } else if used == 0 {
            Finding::degraded(format!("all {all} endpoints are out"))
        } else if let Some(resolver) = failing {
            Finding::degraded(format!("the resolver fails; the set is {:.0?} old", resolver.age))
        } else if let Some(left_out) = left_out {
            Finding::degraded(format!("instances left out of the set: {left_out}"))
        } else if used < all {
            Finding::up().with_text(format!("endpoints in: {used} of {all}"))
        } else {
            Finding::up()
        })
    }
}
