//! The penalty of an endpoint that fails or refuses, where the choice goes by pending calls.

use super::history::{DECAY, FAILED};
use crate::sync::{AtomicU64, Ordering};

/// A factor of the pending calls. A failure or a refusal doubles it, up to [`FAILED`]. It falls as the measure of the
/// latency does, and is never below 1.
///
/// One word keeps it, its *level*: `t + DECAY * ln(factor)`. The factor is above 1 until the instant of the level.
#[derive(Debug)]
pub(super) struct Penalty(AtomicU64);

impl Default for Penalty {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Penalty {
    pub(super) fn raise(&self, now: u64) {
        // Relaxed: an estimate that orders nothing else.
        let doubled = self.0.load(Ordering::Relaxed).max(now).saturating_add(step(2.0));
        self.0.fetch_max(doubled.min(now.saturating_add(step(FAILED))), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn at(&self, now: u64) -> f64 {
        let level = self.0.load(Ordering::Relaxed);
        if level <= now { 1.0 } else { ((level - now) as f64 / DECAY).exp() }
    }
}

/// Returns the level of `factor`, as a time after the present.
fn step(factor: f64) -> u64 {
    (DECAY * factor.ln()) as u64
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_penalty_doubles_up_to_twenty_and_is_forgotten_in_thirty_seconds() {
        let (penalty, start) = (Penalty::default(), 1_000_000_000);
        let near = |now: u64, expected: f64| {
            let found = penalty.at(now);
            assert!((found - expected).abs() < expected / 1000.0, "{found}, expected {expected}");
        };
        near(start, 1.0);
        penalty.raise(start);
        near(start, 2.0);
        near(start + 6_931_471_806, 1.0); // 10 s * ln 2
        (0..10).for_each(|_| penalty.raise(start));
        near(start, 20.0);
        near(start + 10_000_000_000, 20.0 / std::f64::consts::E);
        near(start + 30_000_000_000, 1.0);
    }
}
