use super::{CALLS_NOT_COUNTED, Sample, Tally};
use crate::sync::{AtomicU32, AtomicU64, Ordering, spin_loop};

/// The largest [`CountWindow`]: its numbers have 12 bits each.
pub(crate) const LARGEST_COUNT: u32 = (1 << 12) - 1;

/// The last `size` calls: a ring of outcomes, and its sums in one word.
///
/// A call claims the next slot and corrects the sums in one compare-and-swap of the word, then writes
/// its outcome into the slot under the number of the present lap. Whoever comes to that slot a lap
/// later waits for the write if it is not there yet.
///
/// The word stands with the owner, which looks at it on the way of every call; it begins as 0 would.
#[derive(Debug)]
pub(crate) struct CountWindow {
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
const GENERATIONS: u32 = (1 << 6) - 1;
pub(super) const LAPS: u32 = (1 << 19) - 1;

// Where the parts of the word are. The generation stands where a ticket has it, and the rest of what
// tells a clear window below it; the lap takes what room there is left.
const SLOW: u32 = 12;
const FILLING: u32 = 24;
const LAP_HIGH: u32 = 25;
const GENERATION: u32 = 32;
const NEXT: u32 = 38;
const LAP_LOW: u32 = 50;
const LAP_LOW_BITS: u32 = 64 - LAP_LOW;

impl Ring {
    fn unpack(word: u64) -> Self {
        let part = |shift: u32, mask: u32| (word >> shift) as u32 & mask;
        Self {
            next: part(NEXT, LARGEST_COUNT),
            failed: part(0, LARGEST_COUNT),
            slow: part(SLOW, LARGEST_COUNT),
            full: part(FILLING, 1) == 0,
            generation: part(GENERATION, GENERATIONS),
            lap: part(LAP_LOW, LAPS) | part(LAP_HIGH, LAPS >> LAP_LOW_BITS) << LAP_LOW_BITS,
        }
    }

    fn pack(self) -> u64 {
        let lap = self.lap & LAPS;
        u64::from(self.failed)
            | u64::from(self.slow) << SLOW
            | u64::from(!self.full) << FILLING
            | u64::from(lap >> LAP_LOW_BITS) << LAP_HIGH
            | u64::from(self.generation & GENERATIONS) << GENERATION
            | u64::from(self.next) << NEXT
            | u64::from(lap) << LAP_LOW
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
        Self { slots: (0..size).map(|_| AtomicU32::new(LAPS << 2)).collect() }
    }

    /// The word of an empty window.
    pub(crate) fn empty() -> u64 {
        Ring { next: 0, failed: 0, slow: 0, full: false, generation: 0, lap: 0 }.pack()
    }

    /// What of a word must be as in the ticket of a call, where a window is clear: full of good calls, so
    /// that another one would change nothing.
    pub(crate) const CLEAR: u64 = NUMBER
        | NUMBER << SLOW
        | 1 << FILLING
        | CALLS_NOT_COUNTED
        | (GENERATIONS as u64) << GENERATION;

    /// Counts one call; what is in the window then, or `None` if `generation` has passed.
    pub(crate) fn record(
        &self,
        sums: &AtomicU64,
        generation: u32,
        sample: Sample,
    ) -> Option<Tally> {
        loop {
            // Acquire pairs with the Release below and in `reset`.
            let word = sums.load(Ordering::Acquire);
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
            let claimed =
                sums.compare_exchange_weak(word, next.pack(), Ordering::AcqRel, Ordering::Relaxed);
            if claimed.is_ok() {
                write_slot(slot, old, ring.lap, sample);
                return Some(next.tally(self.slots.len()));
            }
        }
    }

    /// Empties the window for a new generation. The caller keeps resets apart.
    pub(crate) fn reset(&self, sums: &AtomicU64, generation: u32) {
        let mut word = sums.load(Ordering::Relaxed);
        loop {
            let lap = Ring::unpack(word).lap.wrapping_add(1);
            let empty = Ring { next: 0, failed: 0, slow: 0, full: false, generation, lap };
            match sums.compare_exchange_weak(
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

    pub(crate) fn snapshot(&self, sums: &AtomicU64) -> Tally {
        Ring::unpack(sums.load(Ordering::Relaxed)).tally(self.slots.len())
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
