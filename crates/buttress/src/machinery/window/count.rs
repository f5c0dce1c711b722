use super::{CALLS_NOT_COUNTED, Sample, Tally};
use crate::sync::{AtomicU32, AtomicU64, Ordering, spin_loop};

/// The largest [`CountWindow`]: its numbers have 12 bits each.
pub(crate) const LARGEST_COUNT: u32 = (1 << 12) - 1;

/// The last `size` calls: a ring of outcomes, with their sums in one word.
///
/// A call claims the next slot and corrects the sums in one compare-and-swap of the word. It then
/// writes its outcome into the slot with the number of the current lap. A call that reaches the
/// slot one lap later waits for this write.
///
/// The owner keeps the word and reads it on every call. The initial word is [`empty`](Self::empty).
#[derive(Debug)]
pub(crate) struct CountWindow {
    /// The lap of the write, then slow, then failed.
    slots: Box<[AtomicU32]>,
}

/// The word of a [`CountWindow`], unpacked.
#[derive(Clone, Copy)]
struct Ring {
    /// The next slot, counted from 0.
    next: u32,
    failed: u32,
    slow: u32,
    /// `true` if every slot holds an outcome of this generation.
    full: bool,
    /// The low bits of the generation.
    generation: u32,
    /// How many times the ring has wrapped around or was emptied.
    lap: u32,
}

const NUMBER: u64 = LARGEST_COUNT as u64;
const GENERATIONS: u32 = (1 << 6) - 1;
pub(super) const LAPS: u32 = (1 << 19) - 1;

// The layout of the word. The generation is at the same bits as in a ticket. The other parts that
// show a clear window are below it. The lap uses the remaining bits.
const SLOW: u32 = 12;
const FILLING: u32 = 24;
const LAP_HIGH: u32 = 25;
const GENERATION: u32 = 32;
const NEXT: u32 = 38;
const LAP_LOW: u32 = 50;
const LAP_LOW_BITS: u32 = 64 - LAP_LOW;
/// Set until every slot holds an outcome.
const NOT_FULL: u64 = 1 << FILLING;
/// The mask of the window's word. Another good call changes the window only if at least one of these
/// bits is set.
const NOT_CLEAR: u64 = NUMBER | NUMBER << SLOW | NOT_FULL;

impl Ring {
    fn unpack(word: u64) -> Self {
        let part = |shift: u32, mask: u32| (word >> shift) as u32 & mask;
        Self {
            next: part(NEXT, LARGEST_COUNT),
            failed: part(0, LARGEST_COUNT),
            slow: part(SLOW, LARGEST_COUNT),
            full: part(FILLING, 1) == 0,
            generation: part(GENERATION, GENERATIONS),
            lap: lap(word),
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
}

/// Returns the lap of a word.
#[inline(always)]
fn lap(word: u64) -> u32 {
    let high = (word >> LAP_HIGH) as u32 & LAPS >> LAP_LOW_BITS;
    (word >> LAP_LOW) as u32 | high << LAP_LOW_BITS
}

/// Returns the contribution of a slot's outcome to the sums of a word.
#[inline(always)]
fn counted(slot: u32) -> u64 {
    u64::from(slot & 1) | u64::from(slot >> 1 & 1) << SLOW
}

/// Returns the word of the first slot of the next lap.
#[inline(never)]
fn wrapped(word: u64) -> u64 {
    let ring = Ring::unpack(word);
    Ring { next: 0, full: true, lap: ring.lap + 1, ..ring }.pack()
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

    /// Returns the word of an empty window.
    pub(crate) fn empty() -> u64 {
        Ring { next: 0, failed: 0, slow: 0, full: false, generation: 0, lap: 0 }.pack()
    }

    /// The bits of a word that equal those in the ticket of a call if the window is clear. A clear
    /// window is full of good calls, so another good call would change nothing.
    pub(crate) const CLEAR: u64 =
        NOT_CLEAR | CALLS_NOT_COUNTED | (GENERATIONS as u64) << GENERATION;

    /// Counts one call. Returns the new sums, or `None` if `generation` has passed.
    ///
    /// The sums are corrected in the packed word, because unpacking and packing would be most of
    /// the cost. Only a call that wraps around unpacks.
    #[inline(always)]
    pub(crate) fn record(
        &self,
        sums: &AtomicU64,
        generation: u32,
        sample: Sample,
    ) -> Option<Tally> {
        loop {
            // Acquire pairs with the Release below and in `reset`.
            let word = sums.load(Ordering::Acquire);
            if ((word >> GENERATION) as u32 ^ generation) & GENERATIONS != 0 {
                return None;
            }
            // In a full window of good calls another good call changes nothing, so nothing is
            // written.
            if word & NOT_CLEAR == 0 && sample.is_good() {
                return Some(self.tally(word));
            }
            let next = (word >> NEXT & NUMBER) as usize;
            let slot = self.slots.get(next)?;
            let old = slot.load(Ordering::Relaxed);
            let lap = lap(word);
            let mut after = word + counted(mark(0, sample));
            if word & NOT_FULL == 0 {
                if old >> 2 != lap.wrapping_sub(1) & LAPS {
                    // Another call claimed the slot a lap ago and has not written it yet.
                    spin_loop();
                    continue;
                }
                // The oldest call leaves. Its outcome is in the sums, so that no part of the word
                // borrows from another.
                after -= counted(old);
            }
            after = if next + 1 == self.slots.len() { wrapped(after) } else { after + (1 << NEXT) };
            let claimed =
                sums.compare_exchange_weak(word, after, Ordering::AcqRel, Ordering::Relaxed);
            if claimed.is_ok() {
                write_slot(slot, old, lap, sample);
                return Some(self.tally(after));
            }
        }
    }

    #[inline(always)]
    fn tally(&self, word: u64) -> Tally {
        let size = self.slots.len() as u64;
        let total = if word & NOT_FULL == 0 { size } else { word >> NEXT & NUMBER };
        Tally { total, failed: word & NUMBER, slow: word >> SLOW & NUMBER }
    }

    /// Empties the window for a new generation. The caller serializes resets.
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

    /// Marks every slot with the lap before `lap`. Laps are compared within half of their range. A
    /// slot that no call reached for long would fall behind this range.
    fn bring_up(&self, lap: u32) {
        let good = Sample { failed: false, slow: false };
        for slot in &self.slots {
            write_slot(slot, slot.load(Ordering::Relaxed), lap.wrapping_sub(1), good);
        }
    }

    pub(crate) fn snapshot(&self, sums: &AtomicU64) -> Tally {
        self.tally(sums.load(Ordering::Relaxed))
    }
}

/// Writes an outcome, unless the slot already holds one of a later lap. This happens when the
/// window was emptied between the claim and this write.
#[inline(always)]
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
