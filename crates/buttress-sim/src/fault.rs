//! Faults on a schedule.

use std::time::Duration;

use buttress::InvalidConfig;

use crate::Distribution;

/// A kind of fault.
///
/// Faults of one target that overlap combine. Times are added, and factors are multiplied. Shares
/// `a` and `b` of errors or losses become `1 - (1 - a)(1 - b)`. Each gray fault strikes
/// independently, and the smallest capacity applies. A fault of length zero has no effect.
#[non_exhaustive]
#[derive(Clone, PartialEq, Debug)]
pub enum Fault {
    /// Stations: this share of the jobs that would succeed ends in an error, after its time.
    Errors(f64),
    /// Stations: every job that begins takes this time longer.
    Latency(Distribution),
    /// Stations: every job that begins takes this many times as long.
    Slow(f64),
    /// Stations: all work stops and none is lost, as in a garbage collection, a failover, or with a
    /// noisy neighbour.
    Pause,
    /// Stations: all jobs are lost, and calls fail immediately until the fault ends.
    Crash,
    /// Stations: at most this number of servers begins new jobs.
    Capacity(u32),
    /// Stations: calls that arrive are never answered.
    BlackHole,
    /// Stations: a share of the jobs takes several times as long. All other jobs, e.g. health
    /// checks, are normal.
    Gray {
        /// The share of slow jobs.
        share: f64,
        /// The factor on the time of a slow job.
        factor: f64,
    },
    /// Links: all messages are lost, in both directions.
    Partition,
    /// Links: this share of the messages is lost.
    Loss(f64),
    /// Links: adds a delay to every message, drawn from this distribution.
    Delay(Distribution),
    /// Nodes: the wall clock is ahead by this number of nanoseconds, or behind if negative.
    Skew(i64),
}

/// A schedule of faults, each with its target.
///
/// ```
/// use std::time::Duration;
/// use buttress_sim::{Fault, Faults};
/// let sec = Duration::from_secs;
/// let faults = Faults::new()
///     .at(sec(60), sec(1), "db", Fault::Pause)
///     .flapping(sec(100), sec(130), "cache", Fault::Crash, sec(2), sec(3));
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
#[must_use]
pub struct Faults {
    pub(crate) planned: Vec<Planned>,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Planned {
    pub target: String,
    pub fault: Fault,
    pub from: Duration,
    pub to: Duration,
}

impl Faults {
    /// Creates a schedule without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans `fault` for the station, link or node with the name `target`: from `from` on, for
    /// `lasting`. A station, a link and a node may share a name, because the kind of the fault
    /// selects one of them. A run rejects a target that its world does not know.
    pub fn at(
        mut self,
        from: Duration,
        lasting: Duration,
        target: impl Into<String>,
        fault: Fault,
    ) -> Self {
        let to = from.saturating_add(lasting);
        self.planned.push(Planned { target: target.into(), fault, from, to });
        self
    }

    /// Plans `fault` repeatedly from `from` until `to`: present for `on`, then absent for `off`.
    /// Plans a fault without effect if `from` is not before `to`, or if `on` and `off` are zero. A
    /// run still checks the target of such a fault.
    pub fn flapping(
        mut self,
        from: Duration,
        to: Duration,
        target: &str,
        fault: Fault,
        on: Duration,
        off: Duration,
    ) -> Self {
        let mut start = from;
        let cycle = on.saturating_add(off);
        if start >= to || cycle.is_zero() {
            return self.at(from, Duration::ZERO, target, fault);
        }
        while start < to {
            self = self.at(start, on.min(to - start), target, fault.clone());
            start = start.saturating_add(cycle);
        }
        self
    }

    /// Returns all faults, including faults of length zero.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Planned> {
        self.planned.iter()
    }

    /// Returns the faults with a length above zero that begin before `end`.
    pub(crate) fn lasting(&self, end: Duration) -> impl Iterator<Item = &Planned> {
        self.planned.iter().filter(move |planned| planned.from < planned.to && planned.from < end)
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        self.planned.iter().try_for_each(|planned| planned.fault.check())
    }
}

impl Fault {
    fn check(&self) -> Result<(), InvalidConfig> {
        let share = |field: &str, share: f64| {
            let valid = (0.0..=1.0).contains(&share);
            valid.then_some(()).ok_or_else(|| InvalidConfig::new(field, share, "between 0 and 1"))
        };
        let factor = |factor: f64| {
            let valid = factor.is_finite() && factor >= 0.0;
            let error = || InvalidConfig::new("factor", factor, "a finite number, at least 0");
            valid.then_some(()).ok_or_else(error)
        };
        match self {
            Self::Errors(errors) => share("errors", *errors),
            Self::Loss(loss) => share("loss", *loss),
            Self::Slow(slow) => factor(*slow),
            Self::Gray { share: of, factor: by } => share("share", *of).and_then(|()| factor(*by)),
            _ => Ok(()),
        }
    }

    /// Returns a short description, for reports.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Errors(share) => format!("{:.0} % errors", share * 100.0),
            Self::Latency(_) => "added latency".to_owned(),
            Self::Slow(factor) => format!("{factor} times as slow"),
            Self::Pause => "pause".to_owned(),
            Self::Crash => "crash".to_owned(),
            Self::Capacity(servers) => format!("capacity cut to {servers}"),
            Self::BlackHole => "black hole".to_owned(),
            Self::Gray { share, factor } => {
                format!("{:.0} % of jobs {factor} times as slow", share * 100.0)
            }
            Self::Partition => "partition".to_owned(),
            Self::Loss(share) => format!("{:.0} % loss", share * 100.0),
            Self::Delay(_) => "added delay".to_owned(),
            Self::Skew(nanos) => {
                format!("clock off by {:?}", Duration::from_nanos(nanos.unsigned_abs()))
            }
        }
    }

    fn group(&self) -> Target {
        match self {
            Self::Partition | Self::Loss(_) | Self::Delay(_) => Target::Link,
            Self::Skew(_) => Target::Node,
            _ => Target::Station,
        }
    }

    pub(crate) fn strikes_stations(&self) -> bool {
        self.group() == Target::Station
    }

    pub(crate) fn strikes_links(&self) -> bool {
        self.group() == Target::Link
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Station,
    Link,
    Node,
}

/// The combination of all current faults of a station.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Condition {
    pub paused: bool,
    pub down: bool,
    pub swallows: bool,
    pub capacity: Option<u32>,
    pub slow: f64,
    /// The share and the factor of each gray fault.
    pub gray: Vec<(f64, f64)>,
    pub added: Vec<Distribution>,
    pub errors: f64,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            paused: false,
            down: false,
            swallows: false,
            capacity: None,
            slow: 1.0,
            gray: Vec::new(),
            added: Vec::new(),
            errors: 0.0,
        }
    }
}

impl Condition {
    pub(crate) fn of<'a>(faults: impl Iterator<Item = &'a Fault>) -> Self {
        let mut all = Self::default();
        for fault in faults {
            match fault {
                Fault::Errors(share) => all.errors = either(all.errors, *share),
                Fault::Latency(added) => all.added.push(added.clone()),
                Fault::Slow(factor) => all.slow *= factor,
                Fault::Pause => all.paused = true,
                Fault::Crash => all.down = true,
                Fault::Capacity(servers) => {
                    all.capacity = Some(all.capacity.map_or(*servers, |other| other.min(*servers)));
                }
                Fault::BlackHole => all.swallows = true,
                Fault::Gray { share, factor } => all.gray.push((*share, *factor)),
                Fault::Partition | Fault::Loss(_) | Fault::Delay(_) | Fault::Skew(_) => {}
            }
        }
        all
    }
}

/// Returns the share of events that at least one of two independent causes of shares `a` and `b`
/// affects.
pub(crate) fn either(a: f64, b: f64) -> f64 {
    1.0 - (1.0 - a) * (1.0 - b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_one_target_combine() {
        let ms = |ms| Distribution::constant(Duration::from_millis(ms));
        let faults = [
            Fault::Latency(ms(100)),
            Fault::Latency(ms(30)),
            Fault::Slow(2.0),
            Fault::Slow(3.0),
            Fault::Errors(0.5),
            Fault::Errors(0.5),
            Fault::Gray { share: 0.1, factor: 4.0 },
            Fault::Gray { share: 0.2, factor: 5.0 },
            Fault::Capacity(7),
            Fault::Capacity(9),
        ];
        let all = Condition::of(faults.iter());
        assert_eq!(all.added, [ms(100), ms(30)]);
        assert_eq!((all.slow, all.errors, all.capacity), (6.0, 0.75, Some(7)));
        assert_eq!(all.gray, [(0.1, 4.0), (0.2, 5.0)]);
    }

    #[test]
    fn a_share_of_one_stays_one_and_of_zero_changes_nothing() {
        assert_eq!((either(1.0, 0.3), either(0.0, 0.0), either(0.0, 1.0)), (1.0, 0.0, 1.0));
    }
}
