//! The counters of a relay.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::instant;

/// The upper bounds of [`Stats::lag_histogram`]: from 1 ms, each twice the bound before, to 262
/// seconds. The last bound is open.
pub const LAG_BOUNDS: [Duration; 20] = {
    let mut bounds = [Duration::MAX; 20];
    let mut at = 0;
    #[allow(clippy::indexing_slicing, reason = "constant, and no iterators in constants")]
    while at < 19 {
        bounds[at] = Duration::from_millis(1 << at);
        at += 1;
    }
    bounds
};

/// The counters of all relays of one [`Outbox`](super::Outbox) value, since the value was created.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// Messages whose writers called [`Written::committed`](super::Written::committed).
    pub written: u64,
    /// Messages that the publisher took.
    pub relayed: u64,
    /// Deliveries that ended without success.
    pub failed: u64,
    /// Messages that a relay published after a failed attempt, or alone after an earlier relay had
    /// crashed.
    pub redelivered: u64,
    /// Messages that became dead letters.
    pub dead: u64,
    /// Queries for messages.
    pub poll_cycles: u64,
    /// Operations of the store that failed.
    pub store_failed: u64,
    /// Partitions that the relays of the [`Outbox`](super::Outbox) value own now.
    pub partitions: u64,
    /// Messages that these relays are publishing now.
    pub in_flight: u64,
    /// The mean time from when a message was due until it was delivered.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub lag_average: Duration,
    /// The longest time from when a message was due until it was delivered.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::seconds::serialize"))]
    pub lag_max: Duration,
    /// How many lags are in each bucket: above the bound before, and at most the bound in
    /// [`LAG_BOUNDS`].
    pub lag_histogram: [u64; 20],
}

/// The counters, under one lock so that the numbers add up.
#[derive(Debug, Default)]
pub(super) struct Counts {
    stats: Mutex<(Stats, u128)>,
}

impl Counts {
    pub(super) fn update(&self, update: impl FnOnce(&mut Stats)) {
        update(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner).0);
    }

    pub(super) fn relayed(&self, lags: &[Duration]) {
        let (stats, sum) = &mut *self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        for lag in lags {
            stats.relayed += 1;
            *sum += u128::from(instant::to_nanos(*lag));
            stats.lag_max = stats.lag_max.max(*lag);
            let bucket =
                LAG_BOUNDS.iter().zip(&mut stats.lag_histogram).find(|(bound, _)| lag <= *bound);
            if let Some((_, count)) = bucket {
                *count += 1;
            }
        }
        if let Some(average) = sum.checked_div(u128::from(stats.relayed)) {
            stats.lag_average = Duration::from_nanos(u64::try_from(average).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn snapshot(&self) -> Stats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

/// The share of one relay in [`Stats::partitions`] and [`Stats::in_flight`], which sum up all
/// relays of an outbox. Dropping it subtracts the share.
pub(super) struct Gauges {
    counts: Arc<Counts>,
    partitions: u64,
    in_flight: u64,
}

impl Gauges {
    pub(super) fn new(counts: &Arc<Counts>) -> Self {
        Self { counts: counts.clone(), partitions: 0, in_flight: 0 }
    }

    pub(super) fn partitions(&mut self, now: u64) {
        let before = std::mem::replace(&mut self.partitions, now);
        self.counts.update(|stats| stats.partitions = stats.partitions - before + now);
    }

    pub(super) fn in_flight(&mut self, now: u64) {
        let before = std::mem::replace(&mut self.in_flight, now);
        self.counts.update(|stats| stats.in_flight = stats.in_flight - before + now);
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.partitions(0);
        self.in_flight(0);
    }
}
