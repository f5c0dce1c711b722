use super::Tally;
use crate::sync::{AtomicU64, Ordering};

/// The failures since the last success.
#[derive(Debug)]
pub(crate) struct Streak {
    /// Generation and count.
    word: AtomicU64,
}

impl Streak {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    /// Counts one call; what is counted then, or `None` if `generation` has passed.
    pub(crate) fn record(&self, generation: u32, failed: bool) -> Option<Tally> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if (word >> 32) as u32 != generation {
                return None;
            }
            let count = word as u32;
            let next = if failed { count.saturating_add(1) } else { 0 };
            // A success after a success has nothing to write.
            if next == count {
                return Some(Self::tally(next));
            }
            match self.word.compare_exchange_weak(
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

    /// Whether a good call of `generation` would change nothing.
    #[inline]
    pub(crate) fn is_clear(&self, generation: u32) -> bool {
        self.word.load(Ordering::Relaxed) == u64::from(generation) << 32
    }

    pub(crate) fn reset(&self, generation: u32) {
        self.word.store(u64::from(generation) << 32, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Tally {
        Self::tally(self.word.load(Ordering::Relaxed) as u32)
    }

    fn tally(count: u32) -> Tally {
        Tally { total: count.into(), failed: count.into(), slow: 0 }
    }
}
