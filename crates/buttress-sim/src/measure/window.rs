use std::time::Duration;

use super::cause::{Cause, Ends};
use super::histogram::Histogram;
use crate::server::StationStats;

/// What happened in one stretch of a run.
#[non_exhaustive]
#[derive(Clone, PartialEq, Debug)]
pub struct Window {
    /// When it began, since the start of the run.
    pub start: Duration,
    /// How long it is.
    pub length: Duration,
    /// Requests that began in it.
    pub offered: u64,
    /// Requests that ended in it, whenever they had begun.
    pub ends: Ends,
    /// How long those that ended well had taken.
    pub latency: Histogram,
    /// Attempts beyond the first that layers decided on.
    pub retries: u64,
    /// Calls that layers refused, those of attempts included.
    pub refusals: u64,
    /// Calls that layers cut short, those of attempts included.
    pub timeouts: u64,
    /// What each station did, in the order in which they were made.
    pub stations: Vec<StationWindow>,
    /// Each gauge at the end of the window, in the order in which they were made.
    pub gauges: Vec<f64>,
}

impl Window {
    pub(crate) fn rate(&self, count: u64) -> f64 {
        if self.length.is_zero() { 0.0 } else { count as f64 / self.length.as_secs_f64() }
    }

    /// Requests that began, per second.
    #[must_use]
    pub fn offered_rate(&self) -> f64 {
        self.rate(self.offered)
    }

    /// Requests that ended well, per second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.rate(self.ends.of(Cause::Ok))
    }
}

/// What a station did in one stretch of a run.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct StationWindow {
    /// Calls that came in.
    pub arrived: u64,
    /// Jobs that were worked on to their end.
    pub worked: u64,
    /// Time that its servers were busy, all of them added up.
    pub busy: Duration,
    /// Of that, spent for nothing.
    pub wasted: Duration,
    /// The mean number of jobs in it.
    pub mean_present: f64,
    /// Waiting at the end.
    pub waiting: u32,
    /// Worked on at the end.
    pub running: u32,
}

impl StationWindow {
    /// What a station did between two looks at its numbers.
    pub(crate) fn between(before: &StationStats, now: &StationStats) -> Self {
        let over = now.over.saturating_sub(before.over);
        let present = now.present.saturating_sub(before.present);
        Self {
            arrived: now.arrived - before.arrived,
            worked: now.completed + now.failed - before.completed - before.failed,
            busy: now.busy.saturating_sub(before.busy),
            wasted: now.wasted.saturating_sub(before.wasted),
            mean_present: if over.is_zero() {
                0.0
            } else {
                present.as_secs_f64() / over.as_secs_f64()
            },
            waiting: now.waiting,
            running: now.running,
        }
    }
}
