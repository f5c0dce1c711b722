//! [`Outcome`]: what a run came to.

mod made;

use std::time::Duration;

use crate::measure::{
    Band, Cause, Ends, Event, Gauge, Histogram, Latencies, Phase, PhaseKind, Recovery,
    StationWindow, Window,
};
use crate::replay::Violation;
use crate::server::StationStats;

/// What a run came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    name: String,
    seed: u64,
    duration: Duration,
    began: u64,
    unfinished: u64,
    ends: Ends,
    latencies: Latencies,
    retries: u64,
    /// Since the warm-up.
    measured: Duration,
    windows: Vec<Window>,
    gauges: Vec<Gauge>,
    bands: Vec<Band>,
    stations: Vec<(String, StationStats)>,
    target: usize,
    faults: Vec<FaultSpan>,
    phases: Vec<Phase>,
    recoveries: Vec<Recovery>,
    violations: Vec<Violation>,
    trace_hash: u64,
    event_count: u64,
    events: Option<Vec<Event>>,
}

/// When a fault was there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultSpan {
    /// Whom it struck.
    pub target: String,
    /// What it was, in a few words.
    pub what: String,
    /// From when on.
    pub from: Duration,
    /// Until when.
    pub to: Duration,
}

impl Outcome {
    /// The name of the scenario.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same outcome under another name, for comparisons.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// How long it was, in its own time.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// How much of it the totals are of: what follows the warm-up.
    #[must_use]
    pub const fn measured(&self) -> Duration {
        self.measured
    }

    /// Requests that began after the warm-up: those that have ended, each in exactly one way, and those that
    /// are [`unfinished`](Self::unfinished).
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.began
    }

    /// How they ended.
    #[must_use]
    pub const fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The share with this cause of the requests that ended. A request that the end of the run cut short has
    /// not ended: it is neither a success nor a failure.
    #[must_use]
    pub fn share(&self, cause: Cause) -> f64 {
        ratio(self.ends.of(cause), self.ends.all())
    }

    /// Requests that began after the warm-up and were cut short by the end of the run.
    #[must_use]
    pub const fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// How long the requests that were answered well took. It says nothing of the others: see
    /// [`latency_of`](Self::latency_of) and [`quantile_of_all`](Self::quantile_of_all).
    #[must_use]
    pub const fn latency(&self) -> &Histogram {
        self.latencies.of(Cause::Ok)
    }

    /// How long the requests that ended with `cause` took until they ended.
    #[must_use]
    pub const fn latency_of(&self, cause: Cause) -> &Histogram {
        self.latencies.of(cause)
    }

    /// The time within which the share `q` of all requests that ended was answered well; `None` if fewer
    /// were. A refusal or a failure counts as a request that never got its answer, not as a fast success.
    #[must_use]
    pub fn quantile_of_all(&self, q: f64) -> Option<Duration> {
        let (well, all) = (self.ends.of(Cause::Ok) as f64, self.ends.all() as f64);
        let of_the_well = q.clamp(0.0, 1.0) * all / well;
        (of_the_well <= 1.0).then(|| self.latency().quantile(of_the_well))
    }

    /// Requests that began, per second.
    #[must_use]
    pub fn offered(&self) -> f64 {
        self.per_second(self.began)
    }

    /// Requests that ended well, per second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.per_second(self.ends.of(Cause::Ok))
    }

    /// Jobs that the target station did to their end, per second, for whomever.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.target_stats().map_or(0.0, |stats| self.per_second(stats.completed + stats.failed))
    }

    /// Calls that came to the target station: all attempts of all requests.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.target_stats().map_or(0, |stats| stats.arrived)
    }

    /// Further attempts that layers decided on.
    #[must_use]
    pub const fn retries(&self) -> u64 {
        self.retries
    }

    /// Attempts for each request.
    #[must_use]
    pub fn amplification(&self) -> f64 {
        ratio(self.attempts(), self.began)
    }

    /// The share of the target station's work that was for nothing: for callers who had left, and jobs that
    /// went wrong.
    #[must_use]
    pub fn wasted_work(&self) -> f64 {
        self.target_stats().map_or(0.0, |stats| {
            let busy = stats.busy.as_secs_f64();
            if busy > 0.0 { stats.wasted.as_secs_f64() / busy } else { 0.0 }
        })
    }

    /// The windows, in order.
    #[must_use]
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Every gauge.
    #[must_use]
    pub fn gauges(&self) -> &[Gauge] {
        &self.gauges
    }

    /// The gauge of that name.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<&Gauge> {
        self.gauges.iter().find(|gauge| gauge.name == name)
    }

    /// The states of every circuit that changed its state.
    #[must_use]
    pub fn bands(&self) -> &[Band] {
        &self.bands
    }

    /// Every station with its numbers, since the warm-up.
    #[must_use]
    pub fn stations(&self) -> &[(String, StationStats)] {
        &self.stations
    }

    /// The station of that name.
    #[must_use]
    pub fn station(&self, name: &str) -> Option<&StationStats> {
        self.stations.iter().find(|(known, _)| known == name).map(|(_, stats)| stats)
    }

    /// The faults of the run.
    #[must_use]
    pub fn faults(&self) -> &[FaultSpan] {
        &self.faults
    }

    /// What states the system went through.
    #[must_use]
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// Whether it was ever in that state.
    #[must_use]
    pub fn was(&self, kind: PhaseKind) -> bool {
        self.phases.iter().any(|phase| phase.kind == kind)
    }

    /// The state it was in at the end.
    #[must_use]
    pub fn ended_in(&self) -> PhaseKind {
        self.phases.last().map_or(PhaseKind::Stable, |phase| phase.kind)
    }

    /// What followed each trigger.
    #[must_use]
    pub fn recoveries(&self) -> &[Recovery] {
        &self.recoveries
    }

    /// Invariants that did not hold; the first eight.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// A number that two runs share only if the same events happened in the same order at the same times.
    #[must_use]
    pub const fn trace_hash(&self) -> u64 {
        self.trace_hash
    }

    /// How many events there were.
    #[must_use]
    pub const fn event_count(&self) -> u64 {
        self.event_count
    }

    /// The events, if they were kept.
    #[must_use]
    pub fn events(&self) -> Option<&[Event]> {
        self.events.as_deref()
    }

    /// The windows of the target station.
    pub(crate) fn target_windows(&self) -> impl Iterator<Item = StationWindow> {
        let target = self.target;
        self.windows
            .iter()
            .map(move |window| window.stations.get(target).copied().unwrap_or_default())
    }

    fn target_stats(&self) -> Option<&StationStats> {
        self.stations.get(self.target).map(|(_, stats)| stats)
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.measured.as_secs_f64()
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
