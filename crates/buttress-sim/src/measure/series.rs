use std::time::Duration;

use buttress::CircuitState;

/// A number that is read at the end of every window.
#[derive(Clone, PartialEq, Debug)]
pub struct Gauge {
    /// The name of the gauge.
    pub name: String,
    /// The values, one per window.
    pub values: Vec<f64>,
}

/// The states of a circuit, exact to the nanosecond.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Band {
    /// The name of the circuit.
    pub name: String,
    /// The states with their beginnings, in order. The circuit begins closed.
    pub states: Vec<(Duration, CircuitState)>,
}

impl Band {
    /// Returns the state at `at`.
    #[must_use]
    pub fn state_at(&self, at: Duration) -> CircuitState {
        let before = self.states.iter().rev().find(|(from, _)| *from <= at);
        before.map_or(CircuitState::Closed, |(_, state)| *state)
    }

    /// Returns the time up to `end` that the circuit was in `state`.
    #[must_use]
    pub fn time_in(&self, state: CircuitState, end: Duration) -> Duration {
        let ends = self.states.iter().skip(1).map(|(from, _)| *from).chain([end]);
        let spans = self.states.iter().zip(ends);
        let inside = spans.filter(|((_, found), _)| *found == state);
        inside.map(|((from, _), to)| to.min(end).saturating_sub(*from)).sum()
    }
}
