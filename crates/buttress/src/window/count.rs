use super::{Sample, Tally};
use crate::sync::{AtomicU32, AtomicU64, Ordering, spin_loop};

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
pub(super) const LAPS: u32 = (1 << 19) - 1;

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

    /// Whether a good call of `generation` would change nothing: the window is full of good calls.
    #[inline]
    pub(crate) fn is_clear(&self, generation: u32) -> bool {
        const SUMS: u64 = NUMBER << 12 | NUMBER << 24;
        let word = self.word.load(Ordering::Relaxed);
        let clear = 1 << 36 | u64::from(generation & GENERATIONS) << 37;
        word & (SUMS | 1 << 36 | u64::from(GENERATIONS) << 37) == clear
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
                Ok(_) => return self.bring_up(lap),
                Err(now) => word = now,
            }
        }
    }

    /// Marks every slot as of the lap before `lap`. Laps are compared within half of their range, and a
    /// slot that no call reached for long would fall behind it.
    fn bring_up(&self, lap: u32) {
        let good = Sample { failed: false, slow: false };
        for slot in &self.slots {
            write_slot(slot, slot.load(Ordering::Relaxed), lap.wrapping_sub(1), good);
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
