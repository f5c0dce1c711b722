//! [`Share`]: a share of all requests, and the points that it covers.

use crate::vocabulary::invalid_config::{InvalidConfig, check_range};
use crate::vocabulary::rng::Rng;

/// A share from 0 to 1, in steps of 2^-53. A point belongs to the share or not, and belongs to every larger share
/// too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Share(u64);

impl Share {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self(1 << 53);

    /// Returns the share, or the error of `field` if `share` is not between 0 and 1.
    pub(crate) fn checked(field: &str, share: f64) -> Result<Self, InvalidConfig> {
        check_range(field, share, 0.0, 1.0)?;
        Ok(Self::of(share))
    }

    /// Returns the share next to `share`.
    pub(crate) fn of(share: f64) -> Self {
        // The product is exact, and the conversion is exact from 2^-53 on. Not a number becomes 0.
        Self((share.clamp(0.0, 1.0) * Self::ALL.0 as f64) as u64)
    }

    /// Returns the share, rounded to 15 digits, so that 0.2 is read back as 0.2.
    pub(crate) fn as_f64(self) -> f64 {
        const DIGITS: f64 = 1e15;
        (self.0 as f64 / Self::ALL.0 as f64 * DIGITS).round() / DIGITS
    }

    /// Returns the number from which [`of`](Self::of) makes this share again: the rounded one if it does.
    pub(crate) fn to_config(self) -> f64 {
        let rounded = self.as_f64();
        if Self::of(rounded) == self { rounded } else { self.0 as f64 / Self::ALL.0 as f64 }
    }

    /// Returns `true` if `point`, one of 2^64 evenly distributed ones, belongs to the share.
    #[inline(always)]
    pub(crate) fn covers(self, point: u64) -> bool {
        point >> 11 < self.0
    }

    #[inline(always)]
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) fn of_word(word: u64) -> Self {
        Self(word.min(Self::ALL.0))
    }
}

/// The random points of one value of a service, so that clones share no cache line for them. The algorithm is the same
/// as in [`Rng`].
#[derive(Clone, Debug)]
pub(crate) struct Draws(u64);

impl Draws {
    /// Begins the draws of a value.
    pub(crate) fn new(rng: &Rng) -> Self {
        Self(rng.next_u64())
    }

    #[inline(always)]
    pub(crate) fn point(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Rng::STEP);
        Rng::mix(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edge_3_3_none_covers_no_point_and_all_covers_each() {
        for point in [0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX] {
            assert!(!Share::of(0.0).covers(point) && !Share::of(-0.0).covers(point), "{point}");
            assert!(Share::of(1.0).covers(point), "{point}");
        }
        assert_eq!((Share::of(0.0), Share::of(1.0)), (Share::NONE, Share::ALL));
        assert!(!Share::of(1.0 - f64::EPSILON).covers(u64::MAX));
        assert!(Share::of(f64::EPSILON).covers(0));
    }

    #[test]
    fn a_share_is_made_again_of_its_number_for_a_configuration() {
        for share in [0.0, 0.2, 1.0 / 3.0, 0.123_456_789_012_345_6, 1.0 - f64::EPSILON, 1.0] {
            assert_eq!(Share::of(Share::of(share).to_config()), Share::of(share), "{share}");
        }
        assert_eq!(Share::of(0.2).to_config(), 0.2);
    }

    #[test]
    fn edge_3_4_a_share_that_is_none_is_an_error() {
        for (share, text) in [(f64::NAN, "NaN"), (-0.1, "-0.1"), (1.1, "1.1")] {
            let error = Share::checked("share", share).unwrap_err();
            assert_eq!(error.to_string(), format!("share: {text} is not between 0 and 1"));
        }
        for share in [0.0, 0.001, 0.1, 0.2, 0.25, 0.7, 1.0] {
            assert_eq!(Share::checked("share", share).map(Share::as_f64), Ok(share));
        }
    }
}
