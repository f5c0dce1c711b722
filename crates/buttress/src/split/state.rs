//! Which side gets a request, and how the share changes over time.

use crate::machinery::share::Share;
use crate::vocabulary::words::words;

/// A side of a split.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Side {
    /// The service that is replaced.
    Old,
    /// The service that replaces it.
    New,
}

impl Side {
    /// Both sides.
    pub const ALL: &'static [Self] = &[Self::Old, Self::New];

    /// Returns the side called `name`, `old` or `new` in any case. `None` for every other text.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|side| side.as_str().eq_ignore_ascii_case(name))
    }
}

words! {
    /// Returns the side in lower case, for logs, metrics and headers.
    Side { Old => "old", New => "new" }
}

/// Decides which side gets a request. `point` is called only if the share leaves a choice.
#[inline(always)]
pub(super) fn side(forced: Option<Side>, share: Share, point: impl FnOnce() -> u64) -> Side {
    if let Some(side) = forced {
        return side;
    }
    if share == Share::NONE || (share != Share::ALL && !share.covers(point())) {
        return Side::Old;
    }
    Side::New
}

/// A change of the share, evenly over a time. All times are nanoseconds since the split was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ramp {
    pub from: Share,
    pub to: Share,
    pub begin: u64,
    pub length: u64,
}

impl Ramp {
    /// A share that does not change.
    pub(super) fn none(share: Share) -> Self {
        Self { from: share, to: share, begin: 0, length: 0 }
    }

    pub(super) fn is_over(self, now: u64) -> bool {
        now.saturating_sub(self.begin) >= self.length
    }

    /// Returns the share at `now`, rounded towards the beginning. Before the beginning it is the first share.
    pub(super) fn at(self, now: u64) -> Share {
        if self.is_over(now) {
            return self.to;
        }
        let (from, to) = (self.from.word(), self.to.word());
        let passed = u128::from(now.saturating_sub(self.begin));
        let way = u128::from(from.abs_diff(to)) * passed / u128::from(self.length.max(1));
        // At most the whole way, which fits into 53 bits.
        let way = u64::try_from(way).unwrap_or(u64::MAX);
        Share::of_word(if to > from { from.saturating_add(way) } else { from.saturating_sub(way) })
    }

    pub(super) fn words(self) -> [u64; 4] {
        [self.from.word(), self.to.word(), self.begin, self.length]
    }

    pub(super) fn of_words([from, to, begin, length]: [u64; 4]) -> Self {
        Self { from: Share::of_word(from), to: Share::of_word(to), begin, length }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(of: f64) -> Share {
        Share::of(of)
    }

    #[test]
    fn edge_3_3_a_share_of_none_or_all_asks_for_no_point() {
        let unasked = || unreachable!("no choice");
        assert_eq!(side(None, Share::NONE, unasked), Side::Old);
        assert_eq!(side(None, Share::ALL, unasked), Side::New);
        assert_eq!(side(Some(Side::Old), Share::ALL, unasked), Side::Old);
        assert_eq!(side(Some(Side::New), Share::NONE, unasked), Side::New);
    }

    #[test]
    fn a_ramp_is_even_and_exact_at_both_ends() {
        let ramp = Ramp { from: share(0.0), to: share(1.0), begin: 100, length: 1_000 };
        let at = |now| ramp.at(now).as_f64();
        assert_eq!([at(0), at(100), at(350), at(600)], [0.0, 0.0, 0.25, 0.5]);
        assert!(at(1_099) < 1.0);
        assert_eq!([at(1_100), at(u64::MAX)], [1.0, 1.0]);
        assert!(!ramp.is_over(1_099) && ramp.is_over(1_100));
        let down = Ramp { from: share(0.5), to: share(0.25), begin: 0, length: 4 };
        assert_eq!([down.at(2).as_f64(), down.at(4).as_f64()], [0.375, 0.25]);
        let jump = Ramp { from: share(0.1), to: share(0.9), begin: 7, length: 0 };
        assert_eq!(jump.at(7), share(0.9));
        assert_eq!(Ramp::none(share(0.3)).at(0), share(0.3));
    }

    proptest! {
        #[test]
        fn edge_3_2_who_is_over_stays_while_the_share_grows(
            point: u64, from in 0.0..=1.0_f64, to in 0.0..=1.0_f64, length: u64, one: u64, other: u64,
        ) {
            let (from, to) = (share(from.min(to)), share(from.max(to)));
            let ramp = Ramp { from, to, begin: 0, length };
            let (early, late) = (one.min(other), one.max(other));
            let at = |now| side(None, ramp.at(now), || point);
            prop_assert!(at(early) == Side::Old || at(late) == Side::New);
            prop_assert!((from..=to).contains(&ramp.at(early)));
            // The way back moves no point twice.
            let back = Ramp { from: to, to: from, begin: 0, length };
            let at = |now| side(None, back.at(now), || point);
            prop_assert!(at(early) == Side::New || at(late) == Side::Old);
        }
    }
}
