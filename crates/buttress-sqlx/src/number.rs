//! Numbers as databases store and return them.

/// Returns a position, epoch, sequence or limit as databases store it.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns how many rows a statement changed.
pub(crate) fn changed(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}
