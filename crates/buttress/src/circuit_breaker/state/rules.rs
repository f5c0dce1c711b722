//! The rules by which a closed circuit opens. Every call that could open the circuit reads them.

use crate::circuit_breaker::config::Config;
use crate::machinery::window::{LONGEST_STREAK, Sample, Tally};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::vocabulary::classify::Outcome;
use crate::vocabulary::clock;

/// The value of `slow_after` if no call is slow.
const NEVER: u64 = u64::MAX;

/// Each rule is its own atomic. A reader may see a change of several rules in part.
#[derive(Debug)]
pub(crate) struct Rules {
    consecutive: AtomicU32,
    failure_rate: AtomicU64,
    slow_rate: AtomicU64,
    slow_after: AtomicU64,
    min_calls: AtomicU32,
    honour_hint: AtomicU32,
    /// The outcomes of abandoned calls: dropped calls, and panicked calls.
    abandoned: [AtomicU32; 2],
}

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        let rules = Self {
            consecutive: AtomicU32::new(0),
            failure_rate: AtomicU64::new(0),
            slow_rate: AtomicU64::new(0),
            slow_after: AtomicU64::new(NEVER),
            min_calls: AtomicU32::new(0),
            honour_hint: AtomicU32::new(0),
            abandoned: [AtomicU32::new(0), AtomicU32::new(0)],
        };
        rules.apply(config);
        rules
    }

    pub(super) fn apply(&self, config: &Config) {
        let failure_rate = config.failure_rate.unwrap_or(0.5);
        // Without slow calls, no share can reach the limit.
        let slow_rate = config.slow_call_rate.unwrap_or(f64::INFINITY);
        let slow_after = config.slow_call_duration.map_or(NEVER, clock::to_nanos);
        let consecutive = config.consecutive_failures.min(LONGEST_STREAK);
        self.consecutive.store(consecutive, Ordering::Relaxed);
        self.failure_rate.store(failure_rate.to_bits(), Ordering::Relaxed);
        self.slow_rate.store(slow_rate.to_bits(), Ordering::Relaxed);
        self.slow_after.store(slow_after, Ordering::Relaxed);
        self.min_calls.store(config.min_calls, Ordering::Relaxed);
        self.honour_hint.store(config.honour_hint.into(), Ordering::Relaxed);
        let [dropped, panicked] = &self.abandoned;
        dropped.store(config.dropped_calls as u32, Ordering::Relaxed);
        panicked.store(config.panicked_calls as u32, Ordering::Relaxed);
    }

    /// Returns the outcome of an abandoned call.
    pub(crate) fn abandoned(&self, panicked: bool) -> Outcome {
        const OUTCOMES: [Outcome; 3] = [Outcome::Success, Outcome::Failure, Outcome::Ignored];
        let [as_dropped, as_panicked] = &self.abandoned;
        let outcome = if panicked { as_panicked } else { as_dropped };
        let outcome = OUTCOMES.get(outcome.load(Ordering::Relaxed) as usize);
        outcome.copied().unwrap_or(Outcome::Ignored)
    }

    /// Returns `true` if a failure's own hint decides how long the circuit stays open.
    pub(crate) fn honours_hints(&self) -> bool {
        self.honour_hint.load(Ordering::Relaxed) != 0
    }

    /// Returns the duration in nanoseconds from which a call is slow.
    pub(crate) fn slow_after(&self) -> u64 {
        self.slow_after.load(Ordering::Relaxed)
    }

    /// Returns `true` if a call can be slow.
    pub(crate) fn times_calls(&self) -> bool {
        self.slow_after() != NEVER
    }

    /// Returns `true` if the failures in a row have reached the limit.
    pub(super) fn streak_reached(&self, tally: Tally) -> bool {
        tally.failed >= self.consecutive.load(Ordering::Relaxed).into()
    }

    /// Returns `true` if a share has reached its limit. Only a call that raises a share judges it.
    /// Division instead of multiplication: a quotient of whole numbers rounds to the same `f64` as
    /// a literal such as 0.1.
    pub(super) fn shares_reached(&self, sample: Sample, tally: Tally) -> bool {
        let min_calls = self.min_calls.load(Ordering::Relaxed);
        if sample.is_good() || tally.total < u64::from(min_calls) {
            return false;
        }
        let reached = |count: u64, limit: &AtomicU64| {
            count as f64 / tally.total as f64 >= f64::from_bits(limit.load(Ordering::Relaxed))
        };
        sample.failed && reached(tally.failed, &self.failure_rate)
            || sample.slow && reached(tally.slow, &self.slow_rate)
    }
}
