//! Epochs: fences that only grow.

/// The largest value. It is never assigned. Stores keep epochs as signed numbers of 64 bits, and an
/// epoch that a caller invents must be in no row.
const LAST: u64 = i64::MAX as u64;

/// Returns the epoch after `epoch`; `None` if there is none.
pub(crate) fn next(epoch: u64) -> Option<u64> {
    epoch.checked_add(1).filter(|next| *next < LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_is_never_assigned() {
        assert_eq!((next(0), next(1)), (Some(1), Some(2)));
        assert_eq!((next(LAST - 2), next(LAST - 1), next(LAST)), (Some(LAST - 1), None, None));
        assert_eq!(next(u64::MAX), None);
    }
}
