use super::Tally;
use crate::sync::{AtomicU64, Ordering};

/// The longest streak that is counted: more than half a billion failures.
pub(crate) const LONGEST: u32 = 1 << 29;

/// The failures since the last success. The owner keeps the word: the generation in the upper 32
/// bits, the count in the lower ones.
#[derive(Debug)]
pub(crate) struct Streak;

impl Streak {
    /// The bits of a word that equal those in the ticket of a call if there are no failures: all
    /// bits.
    pub(crate) const CLEAR: u64 = u64::MAX;

    /// Counts one call. Returns the new count, or `None` if `generation` has passed.
    pub(crate) fn record(sums: &AtomicU64, generation: u32, failed: bool) -> Option<Tally> {
        let mut word = sums.load(Ordering::Relaxed);
        loop {
            if (word >> 32) as u32 != generation {
                return None;
            }
            let count = word as u32;
            let next = if failed { (count + 1).min(LONGEST) } else { 0 };
            // A success after a success writes nothing.
            if next == count {
                return Some(Self::tally(next));
            }
            match sums.compare_exchange_weak(
                word,
                u64::from(generation) << 32 | u64::from(next),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Self::tally(next)),
                Err(now) => word = now,
            }
        }
    }

    pub(crate) fn reset(sums: &AtomicU64, generation: u32) {
        sums.store(u64::from(generation) << 32, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(sums: &AtomicU64) -> Tally {
        Self::tally(sums.load(Ordering::Relaxed) as u32)
    }

    fn tally(count: u32) -> Tally {
        Tally { total: count.into(), failed: count.into(), slow: 0 }
    }
}
