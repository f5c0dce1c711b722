//! [`Backoff`] and [`Jitter`]: the wait between attempts.

use std::time::Duration;

use crate::vocabulary::clock;
use crate::vocabulary::invalid_config::{InvalidConfig, check_not_endless};
use crate::vocabulary::rng::Rng;

/// The wait before each further attempt.
///
/// Wait `n` (from 0) is `base x factor^n`, saturating, at most the cap if there is one. The jitter
/// changes this wait, and never exceeds the cap either.
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
    /// `None` if waits have no upper bound.
    pub(super) cap: Option<Duration>,
    pub(super) jitter: Jitter,
}

/// The random change of a wait, so that callers that failed together do not return together.
///
/// The kinds and their names follow M. Brooker, "Exponential Backoff and Jitter", AWS Architecture
/// Blog, 2015.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub enum Jitter {
    /// The wait unchanged.
    None,
    /// Evenly between `wait x (1 - fraction)` and `wait x (1 + fraction)`. The fraction is from 0
    /// to 1.
    ///
    /// Near the cap the range keeps its width and ends at the cap. For a wait that has reached the
    /// cap, the range is from `cap x (1 - 2 x fraction)` to the cap.
    Fraction(f64),
    /// Evenly between zero and the wait. The default, because it spreads callers the most.
    #[default]
    Full,
    /// Half of the wait, plus an even share of the other half.
    Equal,
    /// Evenly between the base and three times the previous wait, at most the cap. The factor has
    /// no effect.
    Decorrelated,
}

impl Backoff {
    /// Creates a backoff without waits. The next attempt follows immediately, without a timer.
    pub const fn none() -> Self {
        Self { base: Duration::ZERO, factor: 1.0, cap: None, jitter: Jitter::None }
    }

    /// Creates a backoff that waits `wait` every time, without jitter. There is no upper bound
    /// unless [`cap`](Self::cap) sets one, so that jitter is as likely to lengthen the wait
    /// as to shorten it.
    pub const fn fixed(wait: Duration) -> Self {
        Self { base: wait, factor: 1.0, cap: None, jitter: Jitter::None }
    }

    /// Creates a backoff that doubles the wait from `base` up to 10 seconds (or `base`, if that is
    /// longer), with full jitter.
    pub const fn exponential(base: Duration) -> Self {
        let cap = Duration::from_secs(10);
        let cap = if base.as_nanos() > cap.as_nanos() { base } else { cap };
        Self { base, factor: 2.0, cap: Some(cap), jitter: Jitter::Full }
    }

    /// Sets the factor between one wait and the next. Default of
    /// [`exponential`](Self::exponential): 2. At least 1.
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the longest wait, jitter included. Default of [`fixed`](Self::fixed): none. Default of
    /// [`exponential`](Self::exponential): 10 seconds, or the base if that is longer. At least the base, at most 365
    /// days.
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = Some(cap);
        self
    }

    /// Sets the kind of jitter. Default of [`fixed`](Self::fixed): none. Default of
    /// [`exponential`](Self::exponential): full jitter.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Returns the longest wait, jitter included. Growing waits without a cap have no bound: it
    /// then returns about 584 years.
    #[must_use]
    pub fn longest(&self) -> Duration {
        match (self.cap, self.jitter) {
            (Some(cap), _) => cap,
            (None, _) if self.base.is_zero() => Duration::ZERO,
            (None, Jitter::Decorrelated) => Duration::from_nanos(u64::MAX),
            (None, _) if self.factor > 1.0 => Duration::from_nanos(u64::MAX),
            (None, Jitter::Fraction(fraction)) => {
                let base = clock::to_nanos(self.base);
                Duration::from_nanos(base.saturating_add((base as f64 * fraction) as u64))
            }
            (None, _) => self.base,
        }
    }

    /// Draws wait number `n`, from 0. `previous` is the wait before it, or zero for the first wait.
    #[must_use]
    pub fn delay(&self, n: u32, previous: Duration, rng: &Rng) -> Duration {
        let base = clock::to_nanos(self.base);
        let cap = self.cap.map_or(u64::MAX, clock::to_nanos);
        let exponent = i32::try_from(n).unwrap_or(i32::MAX);
        // Beyond the range of either type the value is infinite or saturates. The cap then decides.
        let plain = ((base as f64 * self.factor.powi(exponent)) as u64).min(cap);
        let nanos = match self.jitter {
            Jitter::None => plain,
            Jitter::Fraction(fraction) => {
                // The range moves below the cap and is not cut off there. Draws that are cut off
                // would all be the cap, and callers that failed together would return together.
                let spread = (plain as f64 * fraction) as u64;
                let high = plain.saturating_add(spread).min(cap);
                rng.between(high.saturating_sub(spread.saturating_mul(2)), high)
            }
            Jitter::Full => rng.between(0, plain),
            Jitter::Equal => rng.between(plain.div_ceil(2), plain),
            Jitter::Decorrelated => {
                let previous = clock::to_nanos(previous).max(base);
                rng.between(base, previous.saturating_mul(3).min(cap))
            }
        };
        Duration::from_nanos(nanos)
    }

    /// Checks the durations, the factor and the jitter. A layer's constructor makes the same check.
    ///
    /// # Errors
    /// Names the first field that is out of its bounds.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        check_not_endless("base-delay", self.base)?;
        if let Some(cap) = self.cap {
            check_not_endless("max-delay", cap)?;
            if cap < self.base {
                let bound = format!("at least the base-delay, {:?}", self.base);
                return Err(InvalidConfig::new("max-delay", format!("{cap:?}"), bound));
            }
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
    // Imported by name, because proptest's prelude has an `Rng` too.
    use crate::vocabulary::rng::Rng;
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
            (Backoff::fixed(ms(100)).cap(ms(99)), "max-delay"),
        ];
        for (backoff, field) in bad {
            assert_eq!(backoff.check().unwrap_err().field(), field);
        }
        assert!(Backoff::none().check().is_ok());
    }

    /// Returns the least and the greatest of many draws, and how often the cap was drawn among
    /// 1000.
    fn drawn(backoff: Backoff, n: u32, previous: Duration, cap: Duration) -> (u64, u64, usize) {
        let rng = Rng::seeded(7);
        let draws: Vec<Duration> = (0..1000).map(|_| backoff.delay(n, previous, &rng)).collect();
        let in_ms = |draw: Option<&Duration>| draw.map_or(0, |draw| draw.as_millis() as u64);
        let (least, most) = (in_ms(draws.iter().min()), in_ms(draws.iter().max()));
        (least, most, draws.iter().filter(|draw| **draw == cap).count())
    }

    /// Regression: `fixed` used its own wait as a cap, so half of all draws were exactly the wait.
    #[test]
    fn a_fixed_wait_has_no_cap_unless_it_is_given_one() {
        let fixed = Backoff::fixed(ms(500)).jitter(Jitter::Fraction(0.2));
        assert_eq!(drawn(fixed, 0, ms(0), ms(500)), (400, 599, 0));
        let growing = Backoff::fixed(ms(500)).factor(2.0);
        let rng = Rng::seeded(1);
        assert_eq!(growing.delay(10, ms(0), &rng), ms(512_000));
        assert_eq!(growing.delay(u32::MAX, ms(0), &rng), Duration::from_nanos(u64::MAX));
        assert_eq!(drawn(fixed.jitter(Jitter::Decorrelated), 3, ms(1000), ms(0)), (501, 2998, 0));
    }

    /// Regression: draws above the cap were cut off at it. This moved up to half of all draws to
    /// the cap, and most decorrelated ones.
    #[test]
    fn near_the_cap_a_draw_is_as_even_as_elsewhere() {
        let at = |base, jitter| Backoff::fixed(ms(base)).cap(ms(1000)).jitter(jitter);
        let cases = [
            (at(1000, Jitter::Fraction(0.2)), (600, 999)),
            (at(900, Jitter::Fraction(0.2)), (640, 999)),
            (at(700, Jitter::Fraction(0.2)), (560, 839)),
            (at(1000, Jitter::Fraction(0.8)), (0, 999)),
            (at(100, Jitter::Decorrelated), (100, 999)),
            (at(1000, Jitter::Full), (0, 999)),
            (at(1000, Jitter::Equal), (500, 999)),
        ];
        for (backoff, (least, most)) in cases {
            let (low, high, at_cap) = drawn(backoff, 5, ms(900), ms(1000));
            assert!((least..=least + 5).contains(&low), "{backoff:?}: {low}");
            assert!((most - 5..=most).contains(&high), "{backoff:?}: {high}");
            assert_eq!(at_cap, 0, "{backoff:?}");
        }
        let fourths = |backoff: Backoff| {
            let rng = Rng::seeded(3);
            let mut parts = [0; 4];
            for _ in 0..4000 {
                let drawn = backoff.delay(0, ms(0), &rng).as_millis() as usize;
                parts[(drawn - 600) / 100] += 1;
            }
            parts
        };
        let parts = fourths(at(1000, Jitter::Fraction(0.2)));
        assert!(parts.iter().all(|part| (900..1100).contains(part)), "{parts:?}");
    }

    proptest! {
        /// Compares with multiplication one step at a time, and checks the bounds of each kind of
        /// jitter.
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
            // Rounding of the powers, far below any noticeable wait.
            let slack = 2.0 + plain * 1e-9;
            let (low, high) = match jitter {
                Jitter::None => (plain, plain),
                Jitter::Fraction(f) => {
                    let high = (plain * (1.0 + f)).min(cap as f64);
                    ((high - 2.0 * plain * f).max(0.0), high)
                }
                Jitter::Full => (0.0, plain),
                Jitter::Equal => (plain / 2.0, plain),
                Jitter::Decorrelated => (base as f64, 3.0 * previous.max(base) as f64),
            };
            prop_assert!(wait >= low.min(cap as f64) - slack, "{wait} below {low}");
            prop_assert!(wait <= high + slack, "{wait} above {high}");
        }
    }
}
