//! [`SeqLock`]: a few words that are read together without a lock, and rarely written.

use crate::sync::{AtomicU64, Ordering, fence, spin_loop};

/// `N` words and a version. Readers never block writers. A reader that meets a write retries. The
/// owner must lock writers against each other.
#[derive(Debug)]
pub(crate) struct SeqLock<const N: usize> {
    /// Odd while a write is in progress.
    version: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> SeqLock<N> {
    /// Begins a read and returns the version, which is odd while a write is in progress. The words
    /// that were read belong together if the version [is still](Self::is_still) the same and even.
    #[inline(always)]
    pub(crate) fn begin(&self) -> u64 {
        // Acquire pairs with the Release at the end of `write`: an even version means its words are
        // visible.
        self.version.load(Ordering::Acquire)
    }

    /// Returns the first words. They may belong to a write in progress.
    #[inline(always)]
    pub(crate) fn first<const M: usize>(&self) -> [u64; M] {
        const { assert!(M <= N) };
        std::array::from_fn(|i| self.words.get(i).map_or(0, |word| word.load(Ordering::Relaxed)))
    }

    #[inline(always)]
    pub(crate) fn is_still(&self, version: u64) -> bool {
        // The fence keeps the second load of the version after the loads of the words. It pairs
        // with the fence in `write`: a reader that saw a new word sees the odd version too.
        fence(Ordering::Acquire);
        self.version.load(Ordering::Relaxed) == version
    }

    pub(crate) fn new(words: [u64; N]) -> Self {
        Self { version: AtomicU64::new(0), words: words.map(AtomicU64::new) }
    }

    /// Returns the words of one write, and how many writes came before it.
    pub(crate) fn read(&self) -> ([u64; N], u64) {
        loop {
            let before = self.begin();
            let words = self.first();
            if before % 2 == 0 && self.is_still(before) {
                return (words, before / 2);
            }
            spin_loop();
        }
    }

    /// Replaces the words. `during` runs before readers can see them.
    pub(crate) fn write(&self, words: [u64; N], during: impl FnOnce()) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (slot, word) in self.words.iter().zip(words) {
            slot.store(word, Ordering::Relaxed);
        }
        during();
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use super::*;
    use crate::sync::beside;
    use loom::sync::Arc;

    #[test]
    fn loom_a_reader_never_sees_half_a_write() {
        loom::model(|| {
            let pair = Arc::new(SeqLock::new([1, 1]));
            let writer = beside(&pair, move |pair| pair.write([2, 2], || ()));
            let ([a, b], version) = pair.read();
            assert_eq!(a, b);
            assert_eq!(version, a - 1);
            writer.join().unwrap();
        });
    }
}
