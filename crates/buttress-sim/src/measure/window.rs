use std::time::Duration;

use super::cause::{Cause, Ends};
use super::histogram::Histogram;
use crate::server::StationStats;

/// The measurements of one window of a run.
#[non_exhaustive]
#[derive(Clone, PartialEq, Debug)]
pub struct Window {
    /// The beginning, since the start of the run.
    pub start: Duration,
    /// The length.
    pub length: Duration,
    /// The requests that began in the window.
    pub offered: u64,
    /// The requests that ended in the window, whenever they began.
    pub ends: Ends,
    /// The latency of the requests that succeeded in the window.
    pub latency: Histogram,
    /// The retries that layers decided to make. Counts the layers of
    /// [`Outcome::retries`](crate::Outcome::retries).
    pub retries: u64,
    /// The calls that layers refused, including calls of attempts. Counts the layers of
    /// [`Outcome::retries`](crate::Outcome::retries).
    pub refusals: u64,
    /// The calls that a time limit interrupted, including calls of attempts. Counts the layers of
    /// [`Outcome::retries`](crate::Outcome::retries).
    pub timeouts: u64,
    /// The work of each station, in the order in which the stations were made.
    pub stations: Vec<StationWindow>,
    /// The value of each gauge at the end of the window, in the order in which the gauges were
    /// made.
    pub gauges: Vec<f64>,
}

impl Window {
    pub(crate) fn rate(&self, count: u64) -> f64 {
        if self.length.is_zero() { 0.0 } else { count as f64 / self.length.as_secs_f64() }
    }

    /// Returns the requests that began, per second.
    #[must_use]
    pub fn offered_rate(&self) -> f64 {
        self.rate(self.offered)
    }

    /// Returns the requests that succeeded, per second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.rate(self.ends.of(Cause::Ok))
    }
}

/// The work of a station in one window of a run.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct StationWindow {
    /// The calls that arrived.
    pub arrived: u64,
    /// The jobs that were worked on to their end.
    pub worked: u64,
    /// The sum of the time that the station's servers were busy.
    pub busy: Duration,
    /// The part of `busy` that was wasted.
    pub wasted: Duration,
    /// The mean number of jobs in the station.
    pub mean_present: f64,
    /// The jobs that wait in the queue at the end of the window.
    pub waiting: u32,
    /// The jobs in service at the end of the window.
    pub running: u32,
}

impl StationWindow {
    /// Returns the work of a station between two snapshots.
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
