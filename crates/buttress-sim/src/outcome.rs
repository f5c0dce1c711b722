//! [`Outcome`]: the measurements of a run.

mod made;

use std::time::Duration;

use crate::measure::{
    Band, Cause, Ends, Event, Gauge, Histogram, Latencies, Phase, PhaseKind, Recovery,
    StationWindow, Window,
};
use crate::replay::Violation;
use crate::server::StationStats;

/// The measurements of a run.
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
    /// The time since the warm-up.
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

/// The time of a fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultSpan {
    /// The name of the station, link or node.
    pub target: String,
    /// A short description of the fault.
    pub what: String,
    /// The beginning, since the start of the run.
    pub from: Duration,
    /// The end, since the start of the run.
    pub to: Duration,
}

impl Outcome {
    /// Returns the name of the scenario.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the outcome under another name, for comparisons.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Returns the seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the duration of the run, in virtual time.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// Returns the time that the totals cover: the run after the warm-up.
    #[must_use]
    pub const fn measured(&self) -> Duration {
        self.measured
    }

    /// Returns the number of requests that began after the warm-up. Each of them has ended with
    /// exactly one cause, or is [`unfinished`](Self::unfinished).
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.began
    }

    /// Returns the number of ended requests per cause.
    #[must_use]
    pub const fn ends(&self) -> &Ends {
        &self.ends
    }

    /// Returns the share of the ended requests that have this cause. A request that the end of the
    /// run interrupted has not ended: it is neither a success nor a failure.
    #[must_use]
    pub fn share(&self, cause: Cause) -> f64 {
        ratio(self.ends.of(cause), self.ends.all())
    }

    /// Returns the number of requests that began after the warm-up and that the end of the run
    /// interrupted.
    #[must_use]
    pub const fn unfinished(&self) -> u64 {
        self.unfinished
    }

    /// Returns the latency of the requests that succeeded. It excludes all other requests: see
    /// [`latency_of`](Self::latency_of) and [`quantile_of_all`](Self::quantile_of_all).
    #[must_use]
    pub const fn latency(&self) -> &Histogram {
        self.latencies.of(Cause::Ok)
    }

    /// Returns the latency of the requests that ended with `cause`.
    #[must_use]
    pub const fn latency_of(&self, cause: Cause) -> &Histogram {
        self.latencies.of(cause)
    }

    /// Returns the time within which the share `q` of all ended requests succeeded, or `None` if
    /// fewer succeeded. A refusal or a failure counts as a request without an answer, not as a fast
    /// success.
    #[must_use]
    pub fn quantile_of_all(&self, q: f64) -> Option<Duration> {
        let (well, all) = (self.ends.of(Cause::Ok) as f64, self.ends.all() as f64);
        let of_the_well = q.clamp(0.0, 1.0) * all / well;
        (of_the_well <= 1.0).then(|| self.latency().quantile(of_the_well))
    }

    /// Returns the requests that began, per second.
    #[must_use]
    pub fn offered(&self) -> f64 {
        self.per_second(self.began)
    }

    /// Returns the requests that succeeded, per second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        self.per_second(self.ends.of(Cause::Ok))
    }

    /// Returns the jobs that the target station finished, per second, whether or not their caller
    /// still waited.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.target_stats().map_or(0.0, |stats| self.per_second(stats.completed + stats.failed))
    }

    /// Returns the calls that reached the target station: all attempts of all requests.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.target_stats().map_or(0, |stats| stats.arrived)
    }

    /// Returns the number of further attempts that layers decided on.
    ///
    /// Layers with an [observer](crate::World::observer) of the world count. Every layer that is made during the run has
    /// one, unless it has an observer of your own. [`attempts`](Self::attempts) counts all calls, without an observer.
    #[must_use]
    pub const fn retries(&self) -> u64 {
        self.retries
    }

    /// Returns the attempts per request.
    #[must_use]
    pub fn amplification(&self) -> f64 {
        ratio(self.attempts(), self.began)
    }

    /// Returns the share of the target station's work that was wasted: jobs whose caller had left,
    /// and jobs that failed.
    #[must_use]
    pub fn wasted_work(&self) -> f64 {
        self.target_stats().map_or(0.0, |stats| {
            let busy = stats.busy.as_secs_f64();
            if busy > 0.0 { stats.wasted.as_secs_f64() / busy } else { 0.0 }
        })
    }

    /// Returns the windows, in order.
    #[must_use]
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Returns all gauges.
    #[must_use]
    pub fn gauges(&self) -> &[Gauge] {
        &self.gauges
    }

    /// Returns the gauge with that name.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<&Gauge> {
        self.gauges.iter().find(|gauge| gauge.name == name)
    }

    /// Returns the states of every circuit that changed its state. Counts the same layers as
    /// [`retries`](Self::retries).
    #[must_use]
    pub fn bands(&self) -> &[Band] {
        &self.bands
    }

    /// Returns all stations with their numbers since the warm-up.
    #[must_use]
    pub fn stations(&self) -> &[(String, StationStats)] {
        &self.stations
    }

    /// Returns the numbers of the station with that name.
    #[must_use]
    pub fn station(&self, name: &str) -> Option<&StationStats> {
        self.stations.iter().find(|(known, _)| known == name).map(|(_, stats)| stats)
    }

    /// Returns the faults of the run.
    #[must_use]
    pub fn faults(&self) -> &[FaultSpan] {
        &self.faults
    }

    /// Returns the states that the system went through.
    #[must_use]
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// Returns whether the system was ever in the state `kind`.
    #[must_use]
    pub fn was(&self, kind: PhaseKind) -> bool {
        self.phases.iter().any(|phase| phase.kind == kind)
    }

    /// Returns the state of the system at the end.
    #[must_use]
    pub fn ended_in(&self) -> PhaseKind {
        self.phases.last().map_or(PhaseKind::Stable, |phase| phase.kind)
    }

    /// Returns the recovery after each trigger.
    #[must_use]
    pub fn recoveries(&self) -> &[Recovery] {
        &self.recoveries
    }

    /// Returns the first eight violations of invariants.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Returns a hash of the trace. Two runs have the same hash only if the same events happened in
    /// the same order at the same times.
    #[must_use]
    pub const fn trace_hash(&self) -> u64 {
        self.trace_hash
    }

    /// Returns the number of events.
    #[must_use]
    pub const fn event_count(&self) -> u64 {
        self.event_count
    }

    /// Returns the events, if the run kept them.
    #[must_use]
    pub fn events(&self) -> Option<&[Event]> {
        self.events.as_deref()
    }

    /// Returns the windows of the target station.
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
