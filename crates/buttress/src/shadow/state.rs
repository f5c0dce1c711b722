//! Which mismatches are kept, and how mirrored calls end.

/// Decides whether the mismatch with this number, from 1, is kept: the first of each `one_in`.
pub(super) fn is_kept(number: u64, one_in: u64) -> bool {
    number.saturating_sub(1) % one_in.max(1) == 0
}

/// Takes one of `most` slots, of which `taken` are taken. `None` if there is none.
pub(super) fn take(taken: u64, most: u64) -> Option<u64> {
    if taken < most { taken.checked_add(1) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_n_mismatches_is_kept() {
        let kept = |one_in| (1..=7).filter(|number| is_kept(*number, one_in)).collect::<Vec<_>>();
        assert_eq!(kept(1), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(kept(3), [1, 4, 7]);
        assert_eq!(kept(100), [1]);
    }

    #[test]
    fn edge_3_9_no_slot_is_taken_beyond_the_most() {
        assert_eq!(
            [take(0, 2), take(1, 2), take(2, 2), take(u64::MAX, 2)],
            [Some(1), Some(2), None, None]
        );
    }
}
