//! Epochs as databases store them.
//!
//! An epoch is a fence that only grows. The last value is never assigned. So raising an epoch never
//! overflows, and no row has an epoch that a caller invents.

/// The value that is never assigned.
const LAST: i64 = i64::MAX;

/// Returns the epoch in a row; `None` if the row is damaged.
pub(crate) fn read(stored: i64) -> Option<u64> {
    u64::try_from(stored).ok().filter(|_| stored < LAST)
}

/// Returns the epoch after the one in a row; `None` if the row is damaged, or its epochs are used
/// up.
pub(crate) fn next(stored: i64) -> Option<i64> {
    stored.checked_add(1).filter(|next| (1..LAST).contains(next))
}

/// Returns the epoch that a caller names, for a comparison with a row. An epoch that is never
/// assigned becomes a value that matches no valid row.
pub(crate) fn asked(epoch: u64) -> i64 {
    i64::try_from(epoch).ok().filter(|epoch| *epoch < LAST).unwrap_or(i64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_is_never_assigned_nor_matched() {
        for (stored, is_read, is_raised) in [
            (i64::MIN, None, None),
            (-1, None, None),
            (0, Some(0), Some(1)),
            (1, Some(1), Some(2)),
            (LAST - 2, Some(LAST as u64 - 2), Some(LAST - 1)),
            (LAST - 1, Some(LAST as u64 - 1), None),
            (LAST, None, None),
        ] {
            assert_eq!((read(stored), next(stored)), (is_read, is_raised), "{stored}");
        }
        assert_eq!((asked(0), asked(7)), (0, 7));
        for invented in [LAST as u64, LAST as u64 + 1, u64::MAX] {
            assert_eq!(asked(invented), i64::MIN);
        }
    }
}
