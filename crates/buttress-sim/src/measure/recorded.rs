use std::time::Duration;

use buttress::CircuitState;

use super::cause::Ends;
use super::latencies::Latencies;
use super::recorder::SourceId;
use super::series::Band;
use super::trace::Trace;
use super::window::Window;
use crate::replay::Violation;

/// The most changes that are kept, over all circuits.
const MOST_CHANGES: usize = 100_000;

/// The records of a run.
pub(crate) struct Recorded {
    pub trace: Trace,
    /// The number of requests that began after the warm-up.
    pub began: u64,
    pub ends: Ends,
    pub latencies: Latencies,
    pub retries: u64,
    /// The number of requests that began since the warm-up and that the end of the run interrupted.
    pub unfinished: u64,
    pub windows: Vec<Window>,
    /// Each band with the layer of the circuit, and its number in that layer.
    pub bands: Vec<((SourceId, u64), Band)>,
    pub violations: Vec<Violation>,
    /// The end of the warm-up.
    pub(super) warm_since: Option<u64>,
}

impl Recorded {
    pub(super) const fn nothing(warm_since: Option<u64>) -> Self {
        Self {
            trace: Trace::new(false),
            began: 0,
            ends: Ends::none(),
            latencies: Latencies::new(),
            retries: 0,
            unfinished: 0,
            windows: Vec::new(),
            bands: Vec::new(),
            violations: Vec::new(),
            warm_since,
        }
    }

    /// Whether a request that began at this time is in the totals.
    pub(super) fn counts(&self, began: u64) -> bool {
        self.warm_since.is_some_and(|since| began >= since)
    }

    /// Records that a circuit, identified by its layer and its number there, changed its state.
    pub(super) fn changed(
        &mut self,
        circuit: (SourceId, u64),
        name: &str,
        now: u64,
        (from, to): (CircuitState, CircuitState),
    ) {
        let total: usize = self.bands.iter().map(|(_, band)| band.states.len()).sum();
        if total >= MOST_CHANGES {
            return;
        }
        let change = (Duration::from_nanos(now), to);
        if let Some((_, band)) = self.bands.iter_mut().find(|(known, _)| *known == circuit) {
            band.states.push(change);
            return;
        }
        let number = self.bands.iter().filter(|(known, _)| known.0 == circuit.0).count() + 1;
        let name = if number == 1 { name.to_owned() } else { format!("{name} ({number})") };
        let states = vec![(Duration::ZERO, from), change];
        self.bands.push((circuit, Band { name, states }));
    }
}
