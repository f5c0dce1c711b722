//! How long to wait between attempts.

use std::time::Duration;

use crate::clock;
use crate::invalid_config::{InvalidConfig, check_not_endless};
use crate::rng::Rng;

/// How long to wait before each further attempt.
///
/// Wait `n` (from 0) is `base x factor^n`, saturating, at most the cap; then the jitter, which never
/// goes above the cap either.
///
/// ```
/// use std::time::Duration;
/// use buttress::retry::{Backoff, Jitter};
/// let backoff = Backoff::exponential(Duration::from_millis(50))
///     .cap(Duration::from_secs(2))
///     .jitter(Jitter::Equal);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
#[must_use]
pub struct Backoff {
    pub(super) base: Duration,
    pub(super) factor: f64,
    pub(super) cap: Duration,
    pub(super) jitter: Jitter,
}

/// How chance changes a wait, so that callers that failed together do not come back together. The
/// kinds and their names are those of M. Brooker, "Exponential Backoff and Jitter", AWS Architecture
/// Blog, 2015.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Jitter {
    /// The wait as it is.
    None,
    /// Evenly between `wait x (1 - fraction)` and `wait x (1 + fraction)`. At most 1.
    Fraction(f64),
    /// Evenly between nothing and the wait. The default: it spreads the most.
    #[default]
    Full,
    /// Half of the wait, and evenly up to the other half.
    Equal,
    /// Evenly between the base and three times the wait before, whatever the factor says.
    Decorrelated,
}

impl Backoff {
    /// The next attempt follows at once, without touching a timer.
    pub const fn none() -> Self {
        Self { base: Duration::ZERO, factor: 1.0, cap: Duration::ZERO, jitter: Jitter::None }
    }

    /// The same wait every time, without jitter.
    pub const fn fixed(wait: Duration) -> Self {
        Self { base: wait, factor: 1.0, cap: wait, jitter: Jitter::None }
    }

    /// Doubling from `base` up to 10 seconds (or `base`, if that is longer), with full jitter.
    pub const fn exponential(base: Duration) -> Self {
        let cap = Duration::from_secs(10);
        let cap = if base.as_nanos() > cap.as_nanos() { base } else { cap };
        Self { base, factor: 2.0, cap, jitter: Jitter::Full }
    }

    /// What each wait is multiplied by for the next. At least 1.
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// The longest wait, jitter included. At least the base.
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// The kind of jitter.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The longest wait, jitter included.
    #[must_use]
    pub const fn longest(&self) -> Duration {
        self.cap
    }

    /// Wait number `n`, from 0; `previous` is the one before, zero if there was none.
    #[must_use]
    pub fn delay(&self, n: u32, previous: Duration, rng: &Rng) -> Duration {
        let (base, cap) = (clock::to_nanos(self.base), clock::to_nanos(self.cap));
        if cap == 0 {
            return Duration::ZERO;
        }
        let exponent = i32::try_from(n).unwrap_or(i32::MAX);
        // Beyond the range of either type the value is infinite or saturates, and the cap decides.
        let plain = ((base as f64 * self.factor.powi(exponent)) as u64).min(cap);
        let nanos = match self.jitter {
            Jitter::None => plain,
            Jitter::Fraction(fraction) => {
                let spread = (plain as f64 * fraction) as u64;
                rng.between(plain.saturating_sub(spread), plain.saturating_add(spread))
            }
            Jitter::Full => rng.between(0, plain),
            Jitter::Equal => rng.between(plain.div_ceil(2), plain),
            Jitter::Decorrelated => {
                let previous = clock::to_nanos(previous).max(base);
                rng.between(base, previous.saturating_mul(3))
            }
        };
        Duration::from_nanos(nanos.min(cap))
    }

    /// Checks the durations, the factor and the jitter. A layer's constructor does the same check.
    ///
    /// # Errors
    /// Names the first field that is out of its bounds.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        check_not_endless("base-delay", self.base)?;
        check_not_endless("max-delay", self.cap)?;
        if self.cap < self.base {
            let bound = format!("at least the base-delay, {:?}", self.base);
            return Err(InvalidConfig::new("max-delay", format!("{:?}", self.cap), bound));
        }
        if !(self.factor.is_finite() && self.factor >= 1.0) {
            return Err(InvalidConfig::new("factor", self.factor, "a finite number, at least 1"));
        }
        match self.jitter {
            Jitter::Fraction(fraction) if !(0.0..=1.0).contains(&fraction) => {
                Err(InvalidConfig::new("jitter-fraction", fraction, "a fraction between 0 and 1"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    // Named, because proptest's prelude has an `Rng` too.
    use crate::rng::Rng;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn jitters() -> impl Strategy<Value = Jitter> {
        prop_oneof![
            Just(Jitter::None),
            (0.0f64..=1.0).prop_map(Jitter::Fraction),
            Just(Jitter::Full),
            Just(Jitter::Equal),
            Just(Jitter::Decorrelated),
        ]
    }

    #[test]
    fn the_default_doubles_to_ten_seconds() {
        let backoff = Backoff::exponential(ms(100)).jitter(Jitter::None);
        let rng = Rng::seeded(1);
        let waits: Vec<u64> =
            (0..9).map(|n| backoff.delay(n, ms(0), &rng).as_millis() as u64).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.delay(u32::MAX, ms(0), &rng), ms(10_000));
    }

    #[test]
    fn bad_numbers_are_named() {
        let bad = [
            (Backoff::exponential(ms(100)).cap(ms(50)), "max-delay"),
            (Backoff::exponential(ms(100)).factor(0.5), "factor"),
            (Backoff::exponential(ms(100)).factor(f64::NAN), "factor"),
            (Backoff::exponential(ms(100)).jitter(Jitter::Fraction(1.5)), "jitter-fraction"),
            (Backoff::fixed(Duration::MAX), "base-delay"),
        ];
        for (backoff, field) in bad {
            assert_eq!(backoff.check().unwrap_err().field(), field);
        }
        assert!(Backoff::none().check().is_ok());
    }

    proptest! {
        /// Against multiplication one step at a time, and the bounds of each kind of jitter.
        #[test]
        fn a_wait_is_the_capped_product_and_its_jitter(
            base in 0u64..1_000_000_000,
            factor in 1.0f64..4.0,
            extra in 0u64..100_000_000_000,
            n in 0u32..80,
            previous in 0u64..1_000_000_000,
            jitter in jitters(),
            seed: u64,
        ) {
            let cap = base + extra;
            let nanos = Duration::from_nanos;
            let backoff = Backoff::exponential(nanos(base)).cap(nanos(cap)).factor(factor);
            let mut plain = base as f64;
            for _ in 0..n {
                plain = (plain * factor).min(cap as f64 * 2.0);
            }
            let plain = plain.min(cap as f64);
            let rng = Rng::seeded(seed);
            let wait = backoff.jitter(jitter).delay(n, nanos(previous), &rng).as_nanos() as f64;
            prop_assert!(wait <= cap as f64);
            // Rounding of the powers, far below what anybody could wait for.
            let slack = 2.0 + plain * 1e-9;
            let (low, high) = match jitter {
                Jitter::None => (plain, plain),
                Jitter::Fraction(f) => (plain * (1.0 - f), plain * (1.0 + f)),
                Jitter::Full => (0.0, plain),
                Jitter::Equal => (plain / 2.0, plain),
                Jitter::Decorrelated => (base as f64, 3.0 * previous.max(base) as f64),
            };
            prop_assert!(wait >= low.min(cap as f64) - slack, "{wait} below {low}");
            prop_assert!(wait <= high + slack, "{wait} above {high}");
        }
    }
}
