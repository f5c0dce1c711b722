//! The permit counter.

use std::time::Instant;

use crate::machinery::queue::{Lack, Resource};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Flag: a call waits in the queue.
const WAITING: u64 = 1 << 63;

/// Permits in use and the flag of the waiters, in one word. A call that returns a permit finds out
/// in the same step whether a waiter must be served.
#[derive(Debug)]
pub struct Permits {
    word: AtomicU64,
    limit: AtomicU32,
    /// The most permits in use when a permit was returned.
    peak: AtomicU64,
}

impl Permits {
    pub(crate) fn new(limit: u32) -> Self {
        Self { word: AtomicU64::new(0), limit: AtomicU32::new(limit), peak: AtomicU64::new(0) }
    }

    /// Takes a permit if one is free and no call waits for it.
    #[inline(always)]
    pub(crate) fn try_take(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        // WAITING makes the word larger than any limit.
        if word >= u64::from(self.limit()) {
            return false;
        }
        // Acquire pairs with the Release in `give_back`: the writes of the last holder are visible
        // to the next.
        let taken =
            self.word.compare_exchange(word, word + 1, Ordering::Acquire, Ordering::Relaxed);
        match taken {
            Ok(_) => true,
            Err(now) => self.take_while(now, 0),
        }
    }

    /// Returns `true` if [`try_take`](Self::try_take) would fail now.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.word.load(Ordering::Relaxed) >= u64::from(self.limit())
    }

    /// Takes a permit if one is free, without regard to the bits of `ignoring`.
    #[inline(never)]
    fn take_while(&self, mut word: u64, ignoring: u64) -> bool {
        while word & !ignoring < u64::from(self.limit()) {
            match self.word.compare_exchange_weak(
                word,
                word + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Returns a permit. The result is `true` if a call waits. The caller must then serve it.
    #[must_use]
    #[inline]
    pub(crate) fn give_back(&self) -> bool {
        let before = self.word.fetch_sub(1, Ordering::Release);
        // One comparison checks two conditions, because WAITING makes the word larger than any
        // peak. It also finds the greatest use: a release follows it, or it still lasts.
        before > self.peak.load(Ordering::Relaxed) && self.look_at(before)
    }

    #[cold]
    fn look_at(&self, before: u64) -> bool {
        self.peak.fetch_max(before & !WAITING, Ordering::Relaxed);
        before & WAITING != 0
    }

    pub(crate) fn resize(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(crate) fn active(&self) -> u32 {
        (self.word.load(Ordering::Relaxed) & !WAITING) as u32
    }

    /// Returns the most permits that were ever in use.
    pub(crate) fn peak(&self) -> u32 {
        let before_the_last_release = self.peak.load(Ordering::Relaxed) as u32;
        before_the_last_release.max(self.active())
    }
}

impl Resource for Permits {
    type Receipt = ();
    const COMES_WITH_TIME: bool = false;

    fn take(&self, _cost: u32, _since: Instant, _until: Instant) -> Result<(), Lack> {
        let word = self.word.load(Ordering::Relaxed);
        if self.take_while(word, WAITING) { Ok(()) } else { Err(Lack::Now) }
    }

    fn give_back(&self, _cost: u32, (): (), _now: Instant) {
        // The queue that returns the permit serves its waiters itself.
        let _waited_for = Self::give_back(self);
    }

    fn due(&self, _ahead: u64, _cost: u32, _now: Instant) -> Option<Instant> {
        None
    }

    fn set_waiting(&self, waiting: bool) {
        // Also a read-modify-write to set the flag. In the order of this word, a release then comes
        // either before it, and its permit is seen, or after it, and the release sees WAITING.
        if waiting {
            self.word.fetch_or(WAITING, Ordering::AcqRel);
        } else {
            self.word.fetch_and(!WAITING, Ordering::AcqRel);
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_shrunk_limit_is_met_as_calls_end() {
        let permits = Permits::new(3);
        assert!((0..3).all(|_| permits.try_take()));
        permits.resize(1);
        assert!(!permits.give_back());
        assert!(!permits.give_back());
        assert!(permits.is_full());
        assert!(!permits.try_take());
        assert!(!permits.give_back());
        assert!(permits.try_take());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "permits take no notice of the time")]
    fn newcomers_do_not_pass_those_who_wait() {
        let permits = Permits::new(2);
        permits.set_waiting(true);
        assert!(permits.is_full());
        assert!(!permits.try_take());
        assert!(
            {
                let now = Instant::now();
                permits.take(1, now, now).is_ok()
            },
            "the queue itself may"
        );
        assert!(permits.give_back());
        permits.set_waiting(false);
        assert!(permits.try_take());
    }

    proptest! {
        /// Compares with a plain counter.
        #[test]
        fn counts_like_a_counter(steps in prop::collection::vec(0u8..4, 0..200)) {
            let permits = Permits::new(4);
            let (mut active, mut limit, mut peak) = (0u32, 4u32, 0u32);
            for step in steps {
                match step {
                    0 | 1 => {
                        let admitted = active < limit;
                        prop_assert_eq!(permits.is_full(), !admitted);
                        prop_assert_eq!(permits.try_take(), admitted);
                        active += u32::from(admitted);
                        peak = peak.max(active);
                    }
                    2 if active > 0 => {
                        prop_assert!(!permits.give_back());
                        active -= 1;
                    }
                    _ => {
                        limit = limit % 6 + 1;
                        permits.resize(limit);
                    }
                }
                prop_assert_eq!((permits.active(), permits.peak()), (active, peak));
            }
        }
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use super::*;
    use crate::machinery::queue::{Ask, Joined, WaitQueue};
    use crate::sync::beside;
    use loom::sync::Arc;

    #[test]
    fn loom_two_takers_of_one_permit() {
        loom::model(|| {
            let permits = Arc::new(Permits::new(1));
            let other = beside(&permits, move |permits| permits.try_take() && !permits.give_back());
            let mine = permits.try_take() && !permits.give_back();
            let theirs = other.join().unwrap();
            assert!(mine || theirs, "at least one got it");
            assert_eq!(permits.active(), 0);
        });
    }

    #[test]
    fn loom_a_release_never_misses_the_one_who_joins_meanwhile() {
        loom::model(|| {
            let shared = Arc::new((Permits::new(1), WaitQueue::<Permits>::new()));
            let now = Instant::now();
            assert!(shared.0.try_take());
            let releaser = beside(&shared, move |shared| {
                if shared.0.give_back() {
                    shared.1.settle(&shared.0, now);
                }
            });
            let ask = Ask { cost: 1, capacity: 1, longest: None, claim: None };
            let joined = shared.1.join(&shared.0, ask, now, |_| true);
            releaser.join().unwrap();
            match joined {
                Joined::Granted(()) => {}
                // The releaser granted it a permit: leaving hands the permit over.
                Joined::Waiting(place) => {
                    assert!(shared.1.leave(&shared.0, &place, now).is_some());
                }
                Joined::Full => panic!("there was room"),
            }
            assert!(!shared.0.give_back());
            assert_eq!(shared.0.active(), 0);
        });
    }
}
