use std::time::Duration;

use buttress::CircuitState;

use super::cause::Ends;
use super::histogram::Histogram;
use super::recorder::SourceId;
use super::series::Band;
use super::trace::Trace;
use super::window::Window;
use crate::replay::Violation;

/// So many changes of all circuits are kept.
const MOST_CHANGES: usize = 100_000;

/// What is left of a run.
pub(crate) struct Recorded {
    pub(crate) trace: Trace,
    /// Requests that began, and how they ended, since the warm-up.
    pub(crate) began: u64,
    pub(crate) ends: Ends,
    pub(crate) latency: Histogram,
    pub(crate) retries: u64,
    /// Requests that the end of the run cut short.
    pub(crate) unfinished: u64,
    pub(crate) windows: Vec<Window>,
    pub(crate) bands: Vec<(SourceId, Band)>,
    pub(crate) violations: Vec<Violation>,
    /// When the warm-up was over.
    pub(super) warm_since: Option<u64>,
}

impl Recorded {
    pub(super) const fn nothing(warm_since: Option<u64>) -> Self {
        Self {
            trace: Trace::new(false),
            began: 0,
            ends: Ends::none(),
            latency: Histogram::new(),
            retries: 0,
            unfinished: 0,
            windows: Vec::new(),
            bands: Vec::new(),
            violations: Vec::new(),
            warm_since,
        }
    }

    /// Whether a request that began then is in the totals.
    pub(super) fn counts(&self, began: u64) -> bool {
        self.warm_since.is_some_and(|since| began >= since)
    }

    pub(super) fn changed(&mut self, source: SourceId, name: &str, now: u64, to: CircuitState) {
        let total: usize = self.bands.iter().map(|(_, band)| band.states.len()).sum();
        if total >= MOST_CHANGES {
            return;
        }
        let change = (Duration::from_nanos(now), to);
        match self.bands.iter_mut().find(|(known, _)| *known == source) {
            Some((_, band)) => band.states.push(change),
            None => {
                let states = vec![(Duration::ZERO, CircuitState::Closed), change];
                self.bands.push((source, Band { name: name.to_owned(), states }));
            }
        }
    }
}
