//! Estimates with their errors, and the formulas for comparison.

use std::collections::BTreeMap;
use std::time::Duration;

use buttress_sim::{Cause, Distribution, Event, Load, Outcome, Scenario, Server, What, Window};

/// The mean service times of all comparisons.
pub(crate) const SCALES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(1), Duration::from_micros(50)];

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) const fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

pub(crate) const fn sec(sec: u64) -> Duration {
    Duration::from_secs(sec)
}

/// A value and its standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    pub value: f64,
    pub error: f64,
}

impl Estimate {
    /// Estimates from batches that are long enough to be independent.
    pub(crate) fn of(batches: impl IntoIterator<Item = f64>) -> Self {
        let batches: Vec<f64> = batches.into_iter().collect();
        let n = batches.len() as f64;
        assert!(n >= 10.0, "{n} batches");
        let value = batches.iter().sum::<f64>() / n;
        let variance = batches.iter().map(|b| (b - value) * (b - value)).sum::<f64>() / (n - 1.0);
        Self { value, error: (variance / n).sqrt() }
    }

    /// Fails if the value is further than four standard errors from `theory`. An error of more than
    /// `most`, relative to the theory, would accept any value.
    #[track_caller]
    pub(crate) fn agrees_with(self, theory: f64, most: f64, what: &str) {
        let Self { value, error } = self;
        assert!(
            error <= most * theory.abs(),
            "{what}: {value} +- {error} is too vague for {theory}"
        );
        let off = (value - theory).abs();
        assert!(off <= 4.0 * error, "{what}: {value} +- {error}, should be {theory}");
    }
}

/// A run of a station that is `busy` (0 to 1), with `requests` random arrivals. Its windows are
/// batches, and the first is the warm-up.
pub(crate) struct Run {
    pub mean: Duration,
    pub servers: u32,
    pub busy: f64,
    pub requests: f64,
}

pub(crate) const BATCHES: u32 = 25;

impl Run {
    pub(crate) fn rate(&self) -> f64 {
        self.busy * f64::from(self.servers) / self.mean.as_secs_f64()
    }

    pub(crate) fn scenario(&self) -> Scenario {
        let duration = Duration::from_secs_f64(self.requests / self.rate());
        let batch = duration / BATCHES;
        Scenario::new("queueing", batch * BATCHES)
            .seed(11)
            .load(Load::poisson(self.rate()))
            .window(batch)
            .warm_up(batch)
    }

    pub(crate) fn server(&self) -> Server {
        Server::new("station", Distribution::exponential(self.mean)).servers(self.servers)
    }

    pub(crate) fn alone(&self, server: Server) -> Outcome {
        self.scenario().run(|world| world.server(server)).unwrap()
    }
}

/// Returns the batches of a run without the warm-up.
pub(crate) fn batches(outcome: &Outcome) -> &[Window] {
    assert_eq!(outcome.windows().len(), BATCHES as usize);
    &outcome.windows()[1..]
}

pub(crate) fn mean_latency(outcome: &Outcome) -> Estimate {
    Estimate::of(batches(outcome).iter().map(|window| window.latency.mean().as_secs_f64()))
}

pub(crate) fn quantile(outcome: &Outcome, q: f64) -> Estimate {
    Estimate::of(batches(outcome).iter().map(|window| window.latency.quantile(q).as_secs_f64()))
}

/// Returns the probability that all of `servers` are busy and a call is lost, under `load` Erlangs.
pub(crate) fn erlang_b(servers: u32, load: f64) -> f64 {
    (1..=servers).fold(1.0, |b, n| load * b / (f64::from(n) + load * b))
}

/// Returns the probability that a call has to wait.
pub(crate) fn erlang_c(servers: u32, load: f64) -> f64 {
    let (b, c) = (erlang_b(servers, load), f64::from(servers));
    b / (1.0 - load / c * (1.0 - b))
}

/// Returns how each request ended and how long it took, in the order of their numbers. The run must
/// keep events.
pub(crate) fn answers(outcome: &Outcome) -> Vec<(Cause, Duration)> {
    let (mut began, mut answers) = (BTreeMap::new(), BTreeMap::new());
    for Event { at, what, id, .. } in outcome.events().unwrap() {
        match what {
            What::Began => drop(began.insert(*id, *at)),
            What::Ended(cause) => drop(answers.insert(*id, (*cause, *at - began[id]))),
            _ => {}
        }
    }
    answers.into_values().collect()
}

/// Returns the times at which jobs arrived at a station. The run must keep events.
pub(crate) fn arrivals(outcome: &Outcome, station: &str) -> Vec<Duration> {
    let events = outcome.events().unwrap().iter();
    let arrived = events.filter(|event| event.what == What::JobArrived && event.source == station);
    arrived.map(|event| event.at).collect()
}

/// Fails if the share of `hits` among `all` is further than four standard errors from `p`.
#[track_caller]
pub(crate) fn share_agrees_with(hits: u64, all: u64, p: f64, what: &str) {
    let (share, error) = (hits as f64 / all as f64, (p * (1.0 - p) / all as f64).sqrt());
    assert!(error < 0.05, "{what}: {all} are too few");
    assert!((share - p).abs() <= 4.0 * error, "{what}: {share} +- {error}, should be {p}");
}
