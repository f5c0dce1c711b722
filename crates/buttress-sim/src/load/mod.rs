//! Who asks, and when.

mod arrivals;
mod drive;
mod rate;

use std::time::Duration;

use buttress::InvalidConfig;

pub(crate) use arrivals::Arrivals;
pub(crate) use drive::{Callers, closed_loop, open_loop};
pub use rate::Rate;

use crate::Distribution;

/// A request. What your services take instead, make of it with tower's `map_request` around the stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    /// Its number; the first is 0.
    pub id: u64,
    /// Whose it is, or what it is about: evenly drawn from [`Load::keys`].
    pub key: u64,
}

/// The load of a run.
///
/// ```
/// use std::time::Duration;
/// use buttress_sim::{Distribution, Load, Rate};
/// let sec = Duration::from_secs;
/// // 300 a second, at random times, and 900 for ten seconds; nobody waits for longer than two.
/// let load = Load::poisson(Rate::spike(300.0, 900.0, sec(60), sec(10)))
///     .impatient(Distribution::constant(sec(2)));
/// // Fifty users who think for a second between an answer and the next request.
/// let load = Load::closed(50, Distribution::exponential(sec(1)));
/// ```
#[derive(Clone, PartialEq, Debug)]
#[must_use]
pub struct Load {
    pub(crate) shape: Shape,
    pub(crate) patience: Option<Distribution>,
    pub(crate) keys: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Shape {
    Open { rate: Rate, random: bool },
    Trace(Vec<Duration>),
    Closed { clients: u32, think: Distribution },
}

impl Load {
    const fn of(shape: Shape) -> Self {
        Self { shape, patience: None, keys: 1 }
    }

    /// Requests at random times, as from many callers who know nothing of each other: so many per second, or
    /// a [`Rate`] that changes.
    pub fn poisson(rate: impl Into<Rate>) -> Self {
        Self::of(Shape::Open { rate: rate.into(), random: true })
    }

    /// Requests at even intervals.
    pub fn even(rate: impl Into<Rate>) -> Self {
        Self::of(Shape::Open { rate: rate.into(), random: false })
    }

    /// Requests at these times since the start.
    pub fn trace(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self::of(Shape::Trace(times))
    }

    /// Requests at the times in `text`: one in a line, in seconds since the start. Empty lines and what
    /// follows a `#` are skipped.
    ///
    /// # Errors
    /// A line that is no time.
    pub fn trace_text(text: &str) -> Result<Self, InvalidConfig> {
        let mut times = Vec::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let seconds = line.parse().ok();
            let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let wrong = || InvalidConfig::new("trace", line, "a time in seconds");
            times.push(time.ok_or_else(wrong)?);
        }
        Ok(Self::trace(times))
    }

    /// So many clients, each of whom thinks, asks, and waits for the answer before thinking again.
    pub fn closed(clients: u32, think: impl Into<Distribution>) -> Self {
        Self::of(Shape::Closed { clients, think: think.into() })
    }

    /// Callers give up when they have waited for so long; their calls are dropped. Defaults to callers who
    /// wait for ever.
    pub fn impatient(mut self, patience: impl Into<Distribution>) -> Self {
        self.patience = Some(patience.into());
        self
    }

    /// Requests are about so many keys. Defaults to 1. At least 1.
    pub const fn keys(mut self, keys: u64) -> Self {
        self.keys = keys;
        self
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        if self.keys == 0 {
            return Err(InvalidConfig::new("keys", 0, "at least 1"));
        }
        match &self.shape {
            Shape::Open { rate, .. } => rate.check(),
            Shape::Trace(_) => Ok(()),
            Shape::Closed { clients: 0, .. } => Err(InvalidConfig::new("clients", 0, "at least 1")),
            Shape::Closed { .. } => Ok(()),
        }
    }
}
