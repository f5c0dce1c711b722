//! Which parts of a call are open, and how the call ends.

/// The parts of one call, by their place in the definition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Progress {
    required: u32,
    open: u32,
    missing: u32,
}

/// How a call ends whose time is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The required part at this place is still open.
    TimedOut(usize),
    /// Only optional parts are open.
    Partial,
}

/// The most parts of an aggregate.
pub(super) const MOST_PARTS: usize = 12;

impl Progress {
    /// Begins a call. Bit `i` of `required` is set if the part at place `i` is required.
    pub(super) fn new(parts: usize, required: u32) -> Self {
        Self { required, open: mask(parts), missing: 0 }
    }

    #[inline(always)]
    pub(super) fn is_open(self, place: usize) -> bool {
        self.open >> place & 1 == 1
    }

    /// The part at `place` has its value.
    #[inline(always)]
    pub(super) fn answered(&mut self, place: usize) {
        self.open &= !(1 << place);
    }

    /// The optional part at `place` is missing.
    pub(super) fn missed(&mut self, place: usize) {
        debug_assert_eq!(self.required >> place & 1, 0, "a required part is never missing");
        self.open &= !(1 << place);
        self.missing |= 1 << place;
    }

    /// Returns `true` if no part is open.
    #[inline(always)]
    pub(super) fn is_done(self) -> bool {
        self.open == 0
    }

    /// Decides how a call ends whose time is over: the first open required part is its error.
    pub(super) fn over(self) -> End {
        match self.open & self.required {
            0 => End::Partial,
            open => End::TimedOut(open.trailing_zeros() as usize),
        }
    }

    /// Returns the missing parts, as bits.
    #[inline]
    pub(super) fn missing(self) -> u32 {
        self.missing
    }
}

/// Returns `parts` ones.
fn mask(parts: usize) -> u32 {
    debug_assert!(parts <= MOST_PARTS, "{parts} parts");
    (1 << parts.min(MOST_PARTS)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edge_4_4_an_open_required_part_is_the_error_and_open_optional_ones_are_missing() {
        // The places 1 and 2 are required.
        let mut progress = Progress::new(4, 0b0110);
        assert_eq!(progress.over(), End::TimedOut(1));
        progress.answered(1);
        assert_eq!(progress.over(), End::TimedOut(2));
        progress.missed(0);
        progress.answered(2);
        assert_eq!(progress.over(), End::Partial);
        assert!(progress.is_open(3) && !progress.is_open(0) && !progress.is_done());
        progress.missed(3);
        assert!(progress.is_done());
        assert_eq!(progress.missing(), 0b1001);
    }

    #[test]
    fn a_call_is_done_when_each_part_has_ended_in_any_order() {
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let mut progress = Progress::new(3, 0b001);
            for place in order {
                assert!(!progress.is_done());
                progress.answered(place);
            }
            assert!(progress.is_done());
            assert_eq!(progress.missing(), 0);
        }
    }

    #[test]
    fn the_most_parts_fit() {
        let mut progress = Progress::new(MOST_PARTS, u32::MAX);
        (0..MOST_PARTS).for_each(|place| progress.answered(place));
        assert!(progress.is_done());
    }
}
