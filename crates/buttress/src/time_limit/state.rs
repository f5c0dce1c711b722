//! The decision of a time limit: which limit holds for a call.

use std::time::{Duration, Instant};

use crate::vocabulary::clock;

/// Set in a [`Bound`] that the deadline of the request makes. A limit is never that long: 292 years.
const BY_DEADLINE: u64 = 1 << 63;

/// How long a call may run, and whether the limit or the deadline ends it. One word, because every call keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bound(u64);

impl Bound {
    /// Returns `limit` in nanoseconds, as [`Bound::limit`] takes it: at most 292 years.
    pub(super) fn nanos(limit: Duration) -> u64 {
        clock::to_nanos(limit).min(!BY_DEADLINE)
    }

    /// The limit of the layer or of the request. Every call makes one, so it costs nothing.
    #[inline(always)]
    pub(super) fn limit(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The earlier of this bound and `deadline`, for a call that begins at `started`. Of two at the same instant the
    /// limit is reported.
    #[inline(never)]
    pub(super) fn and_deadline(self, started: Instant, deadline: Instant) -> Self {
        let left = clock::to_nanos(deadline.saturating_duration_since(started));
        if left < self.0 { Self(left | BY_DEADLINE) } else { self }
    }

    pub(super) fn duration(self) -> Duration {
        Duration::from_nanos(self.0 & !BY_DEADLINE)
    }

    pub(super) fn is_deadline(self) -> bool {
        self.0 & BY_DEADLINE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin")]
    fn the_earlier_of_limit_and_deadline_holds() {
        let (start, ms) = (Instant::now() + Duration::from_secs(9), Duration::from_millis);
        for (deadline, expected) in [
            (start + ms(99), (ms(99), true)),
            (start + ms(100), (ms(100), false)),
            (start + ms(101), (ms(100), false)),
            (start, (Duration::ZERO, true)),
            (start - ms(1), (Duration::ZERO, true)),
        ] {
            let bound = Bound::limit(100_000_000).and_deadline(start, deadline);
            assert_eq!((bound.duration(), bound.is_deadline()), expected);
        }
        let longest = Bound::limit(Bound::nanos(Duration::MAX));
        assert!(!longest.is_deadline(), "the longest limit is a limit");
    }
}
