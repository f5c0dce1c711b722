use super::Tally;
use crate::sync::{AtomicU64, Ordering};

/// The longest streak that is told from a longer one: more than half a billion.
pub(crate) const LONGEST: u32 = 1 << 29;

/// The failures since the last success: the generation over their count, in a word that stands with the
/// owner.
#[derive(Debug)]
pub(crate) struct Streak;

impl Streak {
    /// What of a word must be as in the ticket of a call where there are no failures: all of it.
    pub(crate) const CLEAR: u64 = u64::MAX;

    /// Counts one call; what is counted then, or `None` if `generation` has passed.
    pub(crate) fn record(sums: &AtomicU64, generation: u32, failed: bool) -> Option<Tally> {
        let mut word = sums.load(Ordering::Relaxed);
        loop {
            if (word >> 32) as u32 != generation {
                return None;
            }
            let count = word as u32;
            let next = if failed { (count + 1).min(LONGEST) } else { 0 };
            // A success after a success has nothing to write.
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
