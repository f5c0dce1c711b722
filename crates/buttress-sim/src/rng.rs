//! One seed, and a separate random source per name.

use std::fmt;

use buttress::Rng;

use crate::math;

/// The seed of a run. Each part of a run takes its own random source by name. Adding a layer or a
/// server then changes no numbers of the other parts.
///
/// ```
/// use buttress_sim::Seed;
/// let seed = Seed::new(7);
/// let (arrivals, jitter) = (seed.named("arrivals"), seed.named("jitter"));
/// assert_ne!(arrivals.next_u64(), jitter.next_u64());
/// assert_eq!(seed.named("jitter").next_u64(), Seed::new(7).named("jitter").next_u64());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(u64);

impl Seed {
    /// Creates the seed with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns a random source for `name`. It has the same numbers for the same seed and name,
    /// whatever other sources draw.
    #[must_use]
    pub fn named(self, name: &str) -> Rng {
        Rng::seeded(self.child(name).0)
    }

    /// Returns a seed for `name`, which can be split further.
    #[must_use]
    pub fn child(self, name: &str) -> Self {
        Self(mix(self.0 ^ mix(hash(name.as_bytes()))))
    }

    /// Returns the seed of repetition `n` of a run.
    #[must_use]
    pub const fn repetition(self, n: u64) -> Self {
        if n == 0 { self } else { Self(mix(self.0 ^ mix(n))) }
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed({})", self.0)
    }
}

/// The hash function FNV-1a.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The finalizer of `SplitMix64`: every bit of the input reaches every bit of the output.
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draws uniformly above 0 and up to 1, in steps of 2^-53. The logarithm of the number is finite.
pub(crate) fn unit(rng: &Rng) -> f64 {
    ((rng.next_u64() >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Returns `true` with probability `share`. It draws nothing if the share is 0 or 1.
pub(crate) fn happens(rng: &Rng, share: f64) -> bool {
    share > 0.0 && (share >= 1.0 || unit(rng) <= share)
}

/// Draws from the exponential distribution with mean 1.
pub(crate) fn exponential(rng: &Rng) -> f64 {
    -math::ln(unit(rng))
}

/// Draws from the normal distribution with mean 0 and deviation 1, by Marsaglia's polar method
/// (1964).
pub(crate) fn normal(rng: &Rng) -> f64 {
    loop {
        let (u, v) = (2.0 * unit(rng) - 1.0, 2.0 * unit(rng) - 1.0);
        let s = u * u + v * v;
        if s > 0.0 && s < 1.0 {
            return u * (-2.0 * math::ln(s) / s).sqrt();
        }
    }
}

/// Puts `items` in an order drawn from `rng` (Fisher and Yates).
pub(crate) fn shuffle<T>(items: &mut [T], rng: &Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, rng.between(0, last as u64) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_seeds_give_unrelated_numbers() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            for name in ["", "a", "b", "ab", "ba", "arrivals", "server"] {
                assert!(seen.insert(Seed::new(seed).named(name).next_u64()), "{seed} {name}");
            }
        }
    }

    #[test]
    fn the_moments_are_right() {
        let rng = Seed::new(3).named("moments");
        let n = 200_000;
        let moments = |draw: &dyn Fn() -> f64| {
            let (sum, squares) =
                (0..n).map(|_| draw()).fold((0.0, 0.0), |(a, b), x| (a + x, b + x * x));
            let mean = sum / f64::from(n);
            (mean, squares / f64::from(n) - mean * mean)
        };
        let near = |(mean, variance): (f64, f64), wanted: (f64, f64)| {
            assert!((mean - wanted.0).abs() < 0.01, "mean {mean}");
            assert!((variance - wanted.1).abs() < 0.03, "variance {variance}");
        };
        near(moments(&|| unit(&rng)), (0.5, 1.0 / 12.0));
        near(moments(&|| exponential(&rng)), (1.0, 1.0));
        near(moments(&|| normal(&rng)), (0.0, 1.0));
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u32> = (0..100).collect();
        shuffle(&mut items, &Seed::new(1).named("shuffle"));
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
