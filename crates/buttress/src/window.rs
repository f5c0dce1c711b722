//! Sliding windows over the outcomes of calls: of the last calls, and of the last time.
//!
//! Both are exact, constant in time and memory at any rate, and lock-free. A window belongs to a
//! *generation* of its owner: outcomes that arrive with another one change nothing.

use std::time::Duration;

use crate::clock;
use crate::sync::{AtomicU32, AtomicU64, Ordering, spin_loop};

/// What one call adds to a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sample {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
}

impl Sample {
    pub(crate) const fn is_good(self) -> bool {
        !self.failed && !self.slow
    }
}

/// What is in a window.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) total: u64,
    pub(crate) failed: u64,
    pub(crate) slow: u64,
}

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

/// The largest [`CountWindow`]: its numbers have 12 bits each.
pub(crate) const LARGEST_COUNT: u32 = (1 << 12) - 1;

/// The last `size` calls: a ring of outcomes, and its sums in one word.
///
/// A call claims the next slot and corrects the sums in one compare-and-swap of the word, then writes
/// its outcome into the slot under the number of the present lap. Whoever comes to that slot a lap
/// later waits for the write if it is not there yet.
#[derive(Debug)]
pub(crate) struct CountWindow {
    word: AtomicU64,
    /// Lap of the write, then slow, then failed.
    slots: Box<[AtomicU32]>,
}

/// The word of a [`CountWindow`], unpacked.
#[derive(Clone, Copy)]
struct Ring {
    /// The next slot, counted from 0.
    next: u32,
    failed: u32,
    slow: u32,
    /// Whether every slot holds an outcome of this generation.
    full: bool,
    /// The low bits of the generation.
    generation: u32,
    /// How often the ring came round, or was emptied.
    lap: u32,
}

const NUMBER: u64 = LARGEST_COUNT as u64;
const GENERATIONS: u32 = (1 << 8) - 1;
const LAPS: u32 = (1 << 19) - 1;

impl Ring {
    fn unpack(word: u64) -> Self {
        Self {
            next: (word & NUMBER) as u32,
            failed: (word >> 12 & NUMBER) as u32,
            slow: (word >> 24 & NUMBER) as u32,
            full: word >> 36 & 1 == 1,
            generation: (word >> 37) as u32 & GENERATIONS,
            lap: (word >> 45) as u32,
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.next)
            | u64::from(self.failed) << 12
            | u64::from(self.slow) << 24
            | u64::from(self.full) << 36
            | u64::from(self.generation & GENERATIONS) << 37
            | u64::from(self.lap & LAPS) << 45
    }

    fn tally(self, size: usize) -> Tally {
        let total = if self.full { size as u64 } else { self.next.into() };
        Tally { total, failed: self.failed.into(), slow: self.slow.into() }
    }
}

fn mark(lap: u32, sample: Sample) -> u32 {
    (lap & LAPS) << 2 | u32::from(sample.slow) << 1 | u32::from(sample.failed)
}

impl CountWindow {
    /// `size` is between 1 and [`LARGEST_COUNT`].
    pub(crate) fn new(size: u32) -> Self {
        let size = size.clamp(1, LARGEST_COUNT);
        Self {
            word: AtomicU64::new(0),
            slots: (0..size).map(|_| AtomicU32::new(LAPS << 2)).collect(),
        }
    }

    pub(crate) fn size(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Counts one call; what is in the window then, or `None` if `generation` has passed.
    pub(crate) fn record(&self, generation: u32, sample: Sample) -> Option<Tally> {
        loop {
            // Acquire pairs with the Release below and in `reset`.
            let word = self.word.load(Ordering::Acquire);
            let ring = Ring::unpack(word);
            if ring.generation != generation & GENERATIONS {
                return None;
            }
            // In a full window of good calls another one changes nothing: nothing is written.
            if ring.full && ring.failed == 0 && ring.slow == 0 && sample.is_good() {
                return Some(ring.tally(self.slots.len()));
            }
            let slot = self.slots.get(ring.next as usize)?;
            let old = slot.load(Ordering::Relaxed);
            let (mut failed, mut slow) = (ring.failed, ring.slow);
            if ring.full {
                if old >> 2 != ring.lap.wrapping_sub(1) & LAPS {
                    // Claimed a lap ago and not written yet.
                    spin_loop();
                    continue;
                }
                failed -= old & 1;
                slow -= old >> 1 & 1;
            }
            let wraps = ring.next as usize + 1 == self.slots.len();
            let next = Ring {
                next: if wraps { 0 } else { ring.next + 1 },
                failed: failed + u32::from(sample.failed),
                slow: slow + u32::from(sample.slow),
                full: ring.full || wraps,
                lap: ring.lap + u32::from(wraps),
                ..ring
            };
            let claimed = self.word.compare_exchange_weak(
                word,
                next.pack(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if claimed.is_ok() {
                write_slot(slot, old, ring.lap, sample);
                return Some(next.tally(self.slots.len()));
            }
        }
    }

    /// Empties the window for a new generation. The caller keeps resets apart.
    pub(crate) fn reset(&self, generation: u32) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let lap = Ring::unpack(word).lap.wrapping_add(1);
            let empty = Ring { next: 0, failed: 0, slow: 0, full: false, generation, lap };
            match self.word.compare_exchange_weak(
                word,
                empty.pack(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    pub(crate) fn snapshot(&self) -> Tally {
        Ring::unpack(self.word.load(Ordering::Relaxed)).tally(self.slots.len())
    }
}

/// Writes an outcome unless the slot already holds one of a later lap, which can be when the window
/// was emptied between the claim and this write.
fn write_slot(slot: &AtomicU32, mut old: u32, lap: u32, sample: Sample) {
    let is_older = |other: u32| lap.wrapping_sub(other >> 2) & LAPS <= LAPS / 2;
    while is_older(old) {
        match slot.compare_exchange_weak(
            old,
            mark(lap, sample),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            Ok(_) => return,
            Err(now) => old = now,
        }
    }
}

/// Slices of a [`TimeWindow`]. A call is counted for at least 19 and at most 20 twentieths of the
/// window's length, never longer.
const SLICES: u64 = 20;

/// The calls of the last `length`: counts per slice of time.
#[derive(Debug)]
pub(crate) struct TimeWindow {
    slice: u64,
    slices: Box<[Slice]>,
}

#[derive(Debug)]
struct Slice {
    /// Which slice of time, and of which generation, the counts are of; see [`tag`].
    tag: AtomicU64,
    total: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
}

/// Set while the counts are being zeroed.
const CLEARING: u64 = 1 << 63;
const GENERATION_SHIFT: u32 = 44;

/// Generation (19 bits) over number of the slice (44 bits: 55 years of slices of 100 microseconds).
fn tag(generation: u32, number: u64) -> u64 {
    u64::from(generation & 0x7_ffff) << GENERATION_SHIFT | number & ((1 << GENERATION_SHIFT) - 1)
}

impl TimeWindow {
    pub(crate) fn new(length: Duration) -> Self {
        let slice = (clock::to_nanos(length) / SLICES).max(1);
        let empty = || Slice {
            tag: AtomicU64::new(0),
            total: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            slow: AtomicU64::new(0),
        };
        Self { slice, slices: (0..SLICES).map(|_| empty()).collect() }
    }

    pub(crate) fn length(&self) -> Duration {
        Duration::from_nanos(self.slice.saturating_mul(SLICES))
    }

    /// Counts one call that ended at `now`.
    pub(crate) fn record(&self, generation: u32, sample: Sample, now: u64) {
        let number = now / self.slice;
        let Some(slice) = self.slices.get((number % SLICES) as usize) else { return };
        if !slice.turn_to(tag(generation, number)) {
            return;
        }
        slice.total.fetch_add(1, Ordering::Relaxed);
        if sample.failed {
            slice.failed.fetch_add(1, Ordering::Relaxed);
        }
        if sample.slow {
            slice.slow.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Empties the window for a new generation. The caller keeps resets apart.
    pub(crate) fn reset(&self, generation: u32) {
        for slice in &self.slices {
            let mut old = slice.tag.load(Ordering::Acquire);
            while let Err(now) = slice.clear(old & !CLEARING, tag(generation, 0)) {
                spin_loop();
                old = now;
            }
        }
    }

    /// What is in the window at `now`.
    pub(crate) fn tally(&self, generation: u32, now: u64) -> Tally {
        let number = now / self.slice;
        let oldest = tag(generation, number.saturating_sub(SLICES - 1));
        let newest = tag(generation, u64::MAX);
        let mut tally = Tally::default();
        for slice in &self.slices {
            let tag = slice.tag.load(Ordering::Acquire);
            // A slice that lies ahead counts too: the clock may have gone back.
            if (oldest..=newest).contains(&tag) {
                tally.total += slice.total.load(Ordering::Relaxed);
                tally.failed += slice.failed.load(Ordering::Relaxed);
                tally.slow += slice.slow.load(Ordering::Relaxed);
            }
        }
        tally
    }
}

impl Slice {
    /// Makes this slice stand for `wanted`, emptying it if it stood for an earlier time. False if it
    /// stands for a later time or another generation.
    fn turn_to(&self, wanted: u64) -> bool {
        let mut tag = self.tag.load(Ordering::Acquire);
        loop {
            if tag == wanted {
                return true;
            }
            if tag & CLEARING != 0 {
                spin_loop();
                tag = self.tag.load(Ordering::Acquire);
                continue;
            }
            // A late call of an earlier generation, or one that ended a whole window ago.
            if tag >> GENERATION_SHIFT != wanted >> GENERATION_SHIFT || tag > wanted {
                return false;
            }
            match self.clear(tag, wanted) {
                Ok(()) => return true,
                Err(now) => tag = now,
            }
        }
    }

    /// Makes this slice stand for `wanted` with nothing counted, if it still stands for `tag`.
    fn clear(&self, tag: u64, wanted: u64) -> Result<(), u64> {
        self.tag.compare_exchange(tag, wanted | CLEARING, Ordering::Acquire, Ordering::Acquire)?;
        self.total.store(0, Ordering::Relaxed);
        self.failed.store(0, Ordering::Relaxed);
        self.slow.store(0, Ordering::Relaxed);
        // Release: whoever sees the tag sees the zeroes.
        self.tag.store(wanted, Ordering::Release);
        Ok(())
    }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "window/tests.rs"]
mod tests;

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    const BAD: Sample = Sample { failed: true, slow: false };
    const GOOD: Sample = Sample { failed: false, slow: false };

    #[test]
    fn loom_a_count_window_loses_nothing() {
        loom::model(|| {
            let window = Arc::new(CountWindow::new(2));
            window.record(0, GOOD);
            let other = {
                let window = window.clone();
                thread::spawn(move || window.record(0, BAD))
            };
            window.record(0, BAD);
            other.join().unwrap();
            assert_eq!(window.snapshot(), Tally { total: 2, failed: 2, slow: 0 });
        });
    }

    #[test]
    fn loom_a_late_outcome_does_not_reach_the_next_generation() {
        loom::model(|| {
            let window = Arc::new(CountWindow::new(1));
            let late = {
                let window = window.clone();
                thread::spawn(move || window.record(0, BAD))
            };
            window.reset(1);
            window.record(1, GOOD);
            late.join().unwrap();
            assert_eq!(window.snapshot(), Tally { total: 1, failed: 0, slow: 0 });
            // And the slot is readable: the next lap does not wait for the late writer for ever.
            window.record(1, BAD);
            assert_eq!(window.snapshot(), Tally { total: 1, failed: 1, slow: 0 });
        });
    }

    #[test]
    fn loom_a_slice_is_cleared_once() {
        loom::model(|| {
            let window = Arc::new(TimeWindow::new(Duration::from_nanos(SLICES)));
            window.record(0, BAD, 0);
            let other = {
                let window = window.clone();
                thread::spawn(move || window.record(0, BAD, SLICES))
            };
            window.record(0, BAD, SLICES);
            other.join().unwrap();
            assert_eq!(window.tally(0, SLICES).failed, 2);
        });
    }

    #[test]
    fn loom_a_streak_counts_every_failure() {
        loom::model(|| {
            let streak = Arc::new(Streak::new());
            let other = {
                let streak = streak.clone();
                thread::spawn(move || streak.record(0, true))
            };
            streak.record(0, true);
            other.join().unwrap();
            assert_eq!(streak.snapshot().failed, 2);
        });
    }
}
