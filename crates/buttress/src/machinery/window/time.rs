use std::time::Duration;

use super::{Sample, Tally};
use crate::sync::{AtomicU64, Ordering, spin_loop};
use crate::vocabulary::clock;

/// Slices of a [`TimeWindow`]. A call is counted for at least 19 and at most 20 twentieths of the
/// window's length.
pub(super) const SLICES: u64 = 20;

/// The calls of the last `length`, counted per slice of time.
#[derive(Debug)]
pub(crate) struct TimeWindow {
    slice: u64,
    /// The number of the slice that a call last computed. A call in the same slice reuses it.
    present: AtomicU64,
    slices: Box<[Slice; SLICES as usize]>,
}

#[derive(Debug)]
struct Slice {
    /// The slice of time, and the generation, that the counts belong to. See [`tag`].
    tag: AtomicU64,
    total: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
}

/// Flag: the counts are being zeroed.
const CLEARING: u64 = 1 << 63;
const GENERATION_SHIFT: u32 = 44;

/// Packs the generation (19 bits) above the number of the slice (44 bits: 55 years of slices of 100
/// microseconds).
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
        let slices = Box::new(std::array::from_fn(|_| empty()));
        Self { slice, present: AtomicU64::new(0), slices }
    }

    pub(crate) fn length(&self) -> Duration {
        Duration::from_nanos(self.slice.saturating_mul(SLICES))
    }

    /// Returns the number of the slice of `now`.
    #[inline]
    fn number(&self, now: u64) -> u64 {
        let present = self.present.load(Ordering::Relaxed);
        // A multiplication, because a division would cost several times as much.
        let since = now.checked_sub(present.wrapping_mul(self.slice));
        if since.is_some_and(|since| since < self.slice) {
            return present;
        }
        let number = now / self.slice;
        self.present.store(number, Ordering::Relaxed);
        number
    }

    /// Counts one call that ended at `now`.
    pub(crate) fn record(&self, generation: u32, sample: Sample, now: u64) {
        let number = self.number(now);
        let Some(slice) = self.slices.get((number % SLICES) as usize) else { return };
        if !slice.turn_to(tag(generation, number)) {
            return;
        }
        slice.total.fetch_add(1, Ordering::Relaxed);
        if sample.failed {
            slice.failed.fetch_add(1, Ordering::Release);
        }
        if sample.slow {
            slice.slow.fetch_add(1, Ordering::Release);
        }
    }

    /// Counts a good call that ended at `now`, if its slice exists already. Returns `false` if
    /// nothing was counted.
    #[inline]
    pub(crate) fn count_good(&self, generation: u32, now: u64) -> bool {
        let number = self.number(now);
        let Some(slice) = self.slices.get((number % SLICES) as usize) else { return false };
        let counts = slice.tag.load(Ordering::Acquire) == tag(generation, number);
        if counts {
            slice.total.fetch_add(1, Ordering::Relaxed);
        }
        counts
    }

    /// Empties the window for a new generation. The caller serializes resets.
    pub(crate) fn reset(&self, generation: u32) {
        for slice in self.slices.iter() {
            let mut old = slice.tag.load(Ordering::Acquire);
            while let Err(now) = slice.clear(old & !CLEARING, tag(generation, 0)) {
                spin_loop();
                old = now;
            }
        }
    }

    /// Returns the numbers in the window at `now`.
    pub(crate) fn tally(&self, generation: u32, now: u64) -> Tally {
        let number = self.number(now);
        let oldest = tag(generation, number.saturating_sub(SLICES - 1));
        let newest = tag(generation, u64::MAX);
        let mut tally = Tally::default();
        for slice in self.slices.iter() {
            let tag = slice.tag.load(Ordering::Acquire);
            // A slice that is ahead counts too: the clock may have gone back.
            if (oldest..=newest).contains(&tag) {
                // `total` is read last: a concurrent call may lower a share, never raise it.
                // Acquire pairs with the Release of the parts in `record`.
                tally.failed += slice.failed.load(Ordering::Acquire);
                tally.slow += slice.slow.load(Ordering::Acquire);
                tally.total += slice.total.load(Ordering::Relaxed);
            }
        }
        tally
    }
}

impl Slice {
    /// Moves this slice to `wanted`, and empties it if it belonged to an earlier time. A call that
    /// is older than the slice, because it is late or its clock went back, is counted in the slice.
    /// Returns `false` if the slice belongs to another generation.
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
            if tag >> GENERATION_SHIFT != wanted >> GENERATION_SHIFT {
                return false;
            }
            if tag > wanted {
                return true;
            }
            match self.clear(tag, wanted) {
                Ok(()) => return true,
                Err(now) => tag = now,
            }
        }
    }

    /// Moves this slice to `wanted` with zero counts, if it still belongs to `tag`.
    fn clear(&self, tag: u64, wanted: u64) -> Result<(), u64> {
        self.tag.compare_exchange(tag, wanted | CLEARING, Ordering::Acquire, Ordering::Acquire)?;
        self.total.store(0, Ordering::Relaxed);
        self.failed.store(0, Ordering::Relaxed);
        self.slow.store(0, Ordering::Relaxed);
        // Release: a thread that sees the tag sees the zeroes.
        self.tag.store(wanted, Ordering::Release);
        Ok(())
    }
}
