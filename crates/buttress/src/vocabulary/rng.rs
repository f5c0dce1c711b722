//! [`Rng`]: a small seedable source of random numbers.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A shared source of random numbers, for jitter. It is not suitable for secrets.
///
/// The algorithm is `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014) over one atomic counter. Clones share the sequence, and draws never lock. A
/// seeded source repeats its numbers if the draws come in the same order.
///
/// ```
/// use buttress::Rng;
/// assert_eq!(Rng::seeded(7).next_u64(), Rng::seeded(7).next_u64());
/// ```
#[derive(Clone)]
pub struct Rng {
    state: Arc<AtomicU64>,
}

impl Rng {
    /// Creates a source that returns the same numbers for the same seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { state: Arc::new(AtomicU64::new(seed)) }
    }

    /// Returns the next 64 random bits.
    #[must_use]
    pub fn next_u64(&self) -> u64 {
        Self::mix(self.state.fetch_add(Self::STEP, Ordering::Relaxed).wrapping_add(Self::STEP))
    }

    /// The step of the counter.
    pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Returns the number of a position of the counter.
    #[inline]
    pub(crate) const fn mix(position: u64) -> u64 {
        let mut z = position;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns an evenly distributed number in `low..=high`. Returns `low` if `low` is above
    /// `high`.
    #[must_use]
    pub fn between(&self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low);
        let Some(choices) = span.checked_add(1) else { return self.next_u64() };
        // Lemire's multiply-shift without rejection: the bias is below 2^-64 times the span, far
        // too small to affect jitter.
        low + ((u128::from(self.next_u64()) * u128::from(choices)) >> 64) as u64
    }
}

impl Default for Rng {
    /// Creates a source with a different seed in every process and for every call.
    fn default() -> Self {
        Self::seeded(RandomState::new().build_hasher().finish())
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rng").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence() {
        // The first outputs of SplitMix64 for seed 1234567, as in its reference implementation.
        let rng = Rng::seeded(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn between_keeps_its_bounds() {
        let rng = Rng::seeded(1);
        assert_eq!(rng.between(5, 5), 5);
        assert_eq!(rng.between(6, 5), 6);
        let _any: u64 = rng.between(0, u64::MAX);
        let drawn: Vec<u64> = (0..200).map(|_| rng.between(3, 6)).collect();
        assert!(drawn.iter().all(|n| (3..=6).contains(n)));
        assert!((3..=6).all(|n| drawn.contains(&n)), "every value comes up");
    }
}
