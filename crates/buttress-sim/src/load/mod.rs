//! The requests of a run and their times.

mod arrivals;
mod drive;
mod rate;

use std::time::Duration;

use buttress::InvalidConfig;

pub(crate) use arrivals::Arrivals;
pub(crate) use drive::{Callers, closed_loop, open_loop};
pub use rate::Rate;

use crate::Distribution;

/// A request of a run. Convert it into the type of your services with tower's `map_request` around
/// the stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    /// The number of the request, from 0.
    pub id: u64,
    /// The key of the request, e.g. a user or a record: uniformly drawn from [`Load::keys`].
    pub key: u64,
}

/// The load of a run.
///
/// ```
/// use std::time::Duration;
/// use buttress_sim::{Distribution, Load, Rate};
/// let sec = Duration::from_secs;
/// // 300 per second at random times, and 900 for ten seconds; callers leave after two seconds.
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

    /// Sends requests at random times, as many independent callers do. `rate` is a number per
    /// second, or a [`Rate`] that changes.
    pub fn poisson(rate: impl Into<Rate>) -> Self {
        Self::of(Shape::Open { rate: rate.into(), random: true })
    }

    /// Sends requests at even intervals.
    pub fn even(rate: impl Into<Rate>) -> Self {
        Self::of(Shape::Open { rate: rate.into(), random: false })
    }

    /// Sends requests at these times since the start.
    pub fn trace(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self::of(Shape::Trace(times))
    }

    /// Sends requests at the times in `text`: one per line, in seconds since the start. It skips
    /// empty lines and the text after a `#`.
    ///
    /// # Errors
    /// Returns an error if a line is not a time in seconds.
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

    /// Sends requests from this number of clients. Each client thinks, sends a request, and waits
    /// for the answer.
    pub fn closed(clients: u32, think: impl Into<Distribution>) -> Self {
        Self::of(Shape::Closed { clients, think: think.into() })
    }

    /// Sets the time after which callers leave. Their calls are dropped. Default: callers wait
    /// forever.
    pub fn impatient(mut self, patience: impl Into<Distribution>) -> Self {
        self.patience = Some(patience.into());
        self
    }

    /// Sets the number of keys that requests are about. Default: 1. At least 1.
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
