//! Distributions of times.

use std::sync::Arc;
use std::time::Duration;

use buttress::{InvalidConfig, Rng};

use crate::{math, rng};

/// A distribution of times.
///
/// ```
/// use std::time::Duration;
/// use buttress_sim::{Distribution, Seed};
/// let rng = Seed::new(1).named("database");
/// let database = Distribution::log_normal(Duration::from_millis(4), Duration::from_millis(60))?;
/// assert!(database.draw(&rng) > Duration::ZERO);
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Distribution {
    shape: Shape,
}

#[derive(Clone, PartialEq, Debug)]
enum Shape {
    Constant(u64),
    Uniform(u64, u64),
    Exponential(f64),
    LogNormal { median: f64, sigma: f64 },
    Pareto { least: f64, shape: f64, most: f64 },
    Mixture { first: Box<Distribution>, second: Box<Distribution>, share: f64 },
    Empirical(Arc<[u64]>),
}

impl Distribution {
    /// Returns a distribution that always draws `time`.
    #[must_use]
    pub const fn constant(time: Duration) -> Self {
        Self { shape: Shape::Constant(nanos(time)) }
    }

    /// Returns a uniform distribution from `least` to `most`. It always draws `least` if `most` is
    /// smaller.
    #[must_use]
    pub const fn uniform(least: Duration, most: Duration) -> Self {
        Self { shape: Shape::Uniform(nanos(least), nanos(most)) }
    }

    /// Returns an exponential distribution, the memoryless one that queueing theory often assumes.
    #[must_use]
    pub fn exponential(mean: Duration) -> Self {
        Self { shape: Shape::Exponential(nanos(mean) as f64) }
    }

    /// Returns a log-normal distribution with this median and 99th percentile. Latencies of healthy
    /// services often have this shape. [`log_normal_with_mean`](Self::log_normal_with_mean) takes the mean in place of
    /// the median.
    ///
    /// # Errors
    /// Returns an error if the median is zero, or the percentile is below the median.
    pub fn log_normal(median: Duration, p99: Duration) -> Result<Self, InvalidConfig> {
        let (median, ratio) = ratio_to_p99("median", median, p99)?;
        Ok(Self { shape: Shape::LogNormal { median, sigma: math::ln(ratio) / Z_99 } })
    }

    /// Returns a log-normal distribution with this mean and 99th percentile. A service usually measures its mean:
    /// the sum of its durations divided by their count.
    ///
    /// The percentile is at most 14.96 times the mean, because no log-normal distribution has a greater ratio. Two
    /// distributions have the same mean and percentile. This is the one with the smaller variance.
    ///
    /// ```
    /// use std::time::Duration;
    /// use buttress_sim::Distribution;
    /// let ms = Duration::from_millis;
    /// let service = Distribution::log_normal_with_mean(ms(40), ms(200))?;
    /// let refused = Distribution::log_normal_with_mean(ms(40), ms(600)).unwrap_err();
    /// assert_eq!(refused.to_string(), "p99: 600ms is not at most 14.96 times the mean, 40ms");
    /// # let _ = service;
    /// # Ok::<(), buttress::InvalidConfig>(())
    /// ```
    ///
    /// # Errors
    /// Returns an error if the mean is zero, the percentile is below the mean, or the percentile is more than 14.96
    /// times the mean.
    pub fn log_normal_with_mean(mean: Duration, p99: Duration) -> Result<Self, InvalidConfig> {
        /// The greatest ratio of the percentile to the mean, `e^(Z_99^2 / 2)`, rounded down.
        const GREATEST: f64 = 14.96;
        let (mean_nanos, ratio) = ratio_to_p99("mean", mean, p99)?;
        if ratio > GREATEST {
            let bound = format!("at most {GREATEST} times the mean, {mean:?}");
            return Err(InvalidConfig::new("p99", format!("{p99:?}"), bound));
        }
        // The ratio is `e^(Z_99 sigma - sigma^2 / 2)`. This form of the smaller root subtracts no similar numbers.
        let ln = math::ln(ratio);
        let sigma = 2.0 * ln / (Z_99 + (Z_99 * Z_99 - 2.0 * ln).sqrt());
        let median = mean_nanos * math::exp(-sigma * sigma / 2.0);
        Ok(Self { shape: Shape::LogNormal { median, sigma } })
    }

    /// Returns a Pareto distribution. Its few longest times make up most of the total time.
    /// `shape` is its exponent. With 2 or less the variance is infinite, with 1 or less the mean
    /// too. No time exceeds `most`.
    ///
    /// # Errors
    /// Returns an error if `least` is zero, `most` is below `least`, or `shape` is not a finite
    /// number above zero.
    pub fn pareto(least: Duration, shape: f64, most: Duration) -> Result<Self, InvalidConfig> {
        if least.is_zero() {
            return Err(InvalidConfig::new("least", "0s", "above zero"));
        }
        if most < least {
            let bound = format!("at least the least, {least:?}");
            return Err(InvalidConfig::new("most", format!("{most:?}"), bound));
        }
        if !(shape.is_finite() && shape > 0.0) {
            return Err(InvalidConfig::new("shape", shape, "a finite number above zero"));
        }
        let (least, most) = (nanos(least) as f64, nanos(most) as f64);
        Ok(Self { shape: Shape::Pareto { least, shape, most } })
    }

    /// Returns a distribution that draws from `slow` with this share, and from `fast` otherwise: a
    /// cache and its backend.
    ///
    /// # Errors
    /// Returns an error if the share is not between 0 and 1.
    pub fn bimodal(fast: Self, slow: Self, slow_share: f64) -> Result<Self, InvalidConfig> {
        if !(0.0..=1.0).contains(&slow_share) {
            return Err(InvalidConfig::new("slow-share", slow_share, "between 0 and 1"));
        }
        let (first, second) = (Box::new(fast), Box::new(slow));
        Ok(Self { shape: Shape::Mixture { first, second, share: slow_share } })
    }

    /// Returns a distribution that draws one of the measured `times`, each with the same
    /// probability.
    ///
    /// # Errors
    /// Returns an error if `times` is empty.
    pub fn empirical(times: impl IntoIterator<Item = Duration>) -> Result<Self, InvalidConfig> {
        let times: Arc<[u64]> = times.into_iter().map(nanos).collect();
        if times.is_empty() {
            return Err(InvalidConfig::new("times", "none", "at least one"));
        }
        Ok(Self { shape: Shape::Empirical(times) })
    }

    /// Draws a time.
    #[must_use]
    pub fn draw(&self, rng: &Rng) -> Duration {
        Duration::from_nanos(self.draw_nanos(rng))
    }

    pub(crate) fn draw_nanos(&self, rng: &Rng) -> u64 {
        match &self.shape {
            Shape::Constant(nanos) => *nanos,
            Shape::Uniform(least, most) => rng.between(*least, *most),
            Shape::Exponential(mean) => rounded(mean * rng::exponential(rng)),
            Shape::LogNormal { median, sigma } => {
                rounded(median * math::exp(sigma * rng::normal(rng)))
            }
            Shape::Pareto { least, shape, most } => {
                let drawn = least * math::exp(rng::exponential(rng) / shape);
                rounded(drawn.min(*most))
            }
            Shape::Mixture { first, second, share } => {
                let chosen = if rng::happens(rng, *share) { second } else { first };
                chosen.draw_nanos(rng)
            }
            Shape::Empirical(times) => {
                let index = rng.between(0, times.len() as u64 - 1) as usize;
                times.get(index).copied().unwrap_or_default()
            }
        }
    }
}

/// The 99th percentile of the standard normal distribution.
const Z_99: f64 = 2.326_347_874_040_841;

/// Returns `center` in nanoseconds, and how many times as long the 99th percentile is. `name` is the field of errors.
fn ratio_to_p99(
    name: &'static str,
    center: Duration,
    p99: Duration,
) -> Result<(f64, f64), InvalidConfig> {
    if center.is_zero() {
        return Err(InvalidConfig::new(name, "0s", "above zero"));
    }
    if p99 < center {
        let bound = format!("at least the {name}, {center:?}");
        return Err(InvalidConfig::new("p99", format!("{p99:?}"), bound));
    }
    let center = nanos(center) as f64;
    Ok((center, nanos(p99) as f64 / center))
}

impl From<Duration> for Distribution {
    /// Returns a distribution that always draws this time.
    fn from(time: Duration) -> Self {
        Self::constant(time)
    }
}

/// Returns nanoseconds, at most `u64::MAX` (584 years).
pub(crate) const fn nanos(time: Duration) -> u64 {
    const MOST: u64 = u64::MAX / 1_000_000_000;
    let seconds = time.as_secs();
    if seconds >= MOST {
        return u64::MAX;
    }
    seconds * 1_000_000_000 + time.subsec_nanos() as u64
}

/// Rounds to the nearest whole number, for numbers above zero. It avoids the function call of
/// `round`.
pub(crate) const fn rounded(value: f64) -> u64 {
    (value + 0.5) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn sorted(distribution: &Distribution) -> Vec<f64> {
        let rng = Seed::new(5).named("draws");
        let mut draws: Vec<f64> =
            (0..100_000).map(|_| distribution.draw(&rng).as_secs_f64() * 1e3).collect();
        draws.sort_by(f64::total_cmp);
        draws
    }

    fn near(value: f64, wanted: f64, relative: f64) {
        assert!((value / wanted - 1.0).abs() < relative, "{value} is not about {wanted}");
    }

    #[test]
    fn means_and_percentiles_are_those_asked_for() {
        let mean = |draws: &[f64]| draws.iter().sum::<f64>() / draws.len() as f64;
        near(mean(&sorted(&Distribution::exponential(ms(7)))), 7.0, 0.02);
        near(mean(&sorted(&Distribution::uniform(ms(2), ms(4)))), 3.0, 0.01);
        let draws = sorted(&Distribution::log_normal(ms(4), ms(60)).unwrap());
        near(draws[50_000], 4.0, 0.03);
        near(draws[99_000], 60.0, 0.06);
        for (wanted, p99) in [(40, 200), (40, 40), (40, 41), (10, 100)] {
            let draws = sorted(&Distribution::log_normal_with_mean(ms(wanted), ms(p99)).unwrap());
            near(mean(&draws), wanted as f64, 0.03);
            near(draws[99_000], p99 as f64, 0.06);
        }
        let draws = sorted(&Distribution::pareto(ms(1), 2.0, ms(1_000_000)).unwrap());
        near(draws[50_000], 2f64.sqrt(), 0.02);
        near(draws[99_000], 10.0, 0.06);
        assert!(draws[0] >= 1.0);
        let (fast, slow) = (Distribution::constant(ms(1)), Distribution::constant(ms(50)));
        let draws = sorted(&Distribution::bimodal(fast, slow, 0.1).unwrap());
        near(draws.iter().filter(|draw| **draw > 10.0).count() as f64, 10_000.0, 0.05);
        let draws = sorted(&Distribution::empirical([ms(1), ms(2), ms(6)]).unwrap());
        near(mean(&draws), 3.0, 0.02);
    }

    #[test]
    fn nothing_is_longer_than_the_most() {
        let draws = sorted(&Distribution::pareto(ms(1), 0.5, ms(20)).unwrap());
        assert_eq!(draws[99_999], 20.0);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(Distribution::log_normal(Duration::ZERO, ms(1)).is_err());
        assert!(Distribution::log_normal(ms(2), ms(1)).is_err());
        let message =
            |mean, p99| Distribution::log_normal_with_mean(mean, p99).unwrap_err().to_string();
        assert_eq!(message(Duration::ZERO, ms(1)), "mean: 0s is not above zero");
        assert_eq!(message(ms(2), ms(1)), "p99: 1ms is not at least the mean, 2ms");
        assert_eq!(
            message(ms(100), ms(1497)),
            "p99: 1.497s is not at most 14.96 times the mean, 100ms"
        );
        assert!(Distribution::log_normal_with_mean(ms(100), ms(1496)).is_ok());
        assert!(Distribution::pareto(ms(1), f64::NAN, ms(2)).is_err());
        assert!(Distribution::pareto(ms(3), 1.0, ms(2)).is_err());
        let one = || Distribution::constant(ms(1));
        assert!(Distribution::bimodal(one(), one(), 1.1).is_err());
        assert!(Distribution::empirical([]).is_err());
    }
}
