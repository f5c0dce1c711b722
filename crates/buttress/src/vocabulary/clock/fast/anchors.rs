//! Time by a counter that drifts, corrected by the system clock.
//!
//! An *anchor* is a pair of readings, one of the counter and one of the system clock. It is valid for
//! [`PERIOD`] by the counter. The first reader after that puts the next anchor in its place.
//!
//! Time never goes back, because an anchor begins no earlier than the latest time that the anchor
//! before it can return. That bound is the time at the end of the period, so readers need not
//! exchange the times that they read.

use crate::sync::seqlock::SeqLock;
use crate::sync::{Mutex, try_lock};

/// How long an anchor is valid, in nanoseconds: 1 millisecond. A counter that drifts by 100 ppm is wrong by 100
/// nanoseconds then. A comparison costs about as much as two reads of the system clock.
pub(super) const PERIOD: u64 = 1_000_000;

/// The longest valid comparison, in nanoseconds. A thread was suspended during a longer one, so it
/// is repeated.
const LONG: u64 = 1_000;
const COMPARISONS: u32 = 3;

/// The two clocks that are compared.
pub(super) trait Readings {
    /// Returns the counter, in ticks.
    fn counter(&self) -> u64;
    /// Returns the system clock, in nanoseconds.
    fn system(&self) -> u64;
}

/// The anchor that is valid now.
#[derive(Debug)]
pub(super) struct Anchors {
    /// Nanoseconds per 2^32 ticks.
    scale: u64,
    /// [`PERIOD`] in ticks.
    period: u64,
    words: SeqLock<3>,
    /// Held while the words are written.
    writer: Mutex<()>,
}

#[derive(Clone, Copy)]
struct Anchor {
    counter: u64,
    system: u64,
    /// The earliest time of this anchor.
    floor: u64,
}

impl Anchor {
    #[inline(always)]
    fn from_words([counter, system, floor]: [u64; 3]) -> Self {
        Self { counter, system, floor }
    }

    fn to_words(self) -> [u64; 3] {
        [self.counter, self.system, self.floor]
    }

    /// Returns the time `ticks` after the anchor. `ticks` is at most a period, so the product is
    /// below 2^54.
    #[inline(always)]
    fn after(self, ticks: u64, scale: u64) -> u64 {
        (self.system + (ticks.wrapping_mul(scale) >> 32)).max(self.floor)
    }
}

impl Anchors {
    /// `scale` is nanoseconds per 2^32 ticks.
    pub(super) fn new(scale: u64, readings: &impl Readings) -> Self {
        let scale = scale.max(1);
        let period = (u128::from(PERIOD) << 32) / u128::from(scale);
        let period = u64::try_from(period).unwrap_or(u64::MAX).max(1);
        let first = compare(readings, ticks_of(LONG, period), 0);
        Self { scale, period, words: SeqLock::new(first.to_words()), writer: Mutex::new(()) }
    }

    /// Returns the current time, in nanoseconds of the system clock.
    #[inline(always)]
    pub(super) fn now(&self, readings: &impl Readings) -> u64 {
        // Without the bit that says a write is in progress: with that bit `is_still` fails.
        let version = self.words.begin() & !1;
        let anchor = Anchor::from_words(self.words.first());
        // A counter that went back is far ahead by this difference.
        let ticks = readings.counter().wrapping_sub(anchor.counter);
        if ticks < self.period && self.words.is_still(version) {
            return anchor.after(ticks, self.scale);
        }
        self.renew(readings)
    }

    /// Puts a new anchor in the place of one whose period is over.
    #[cold]
    #[inline(never)]
    fn renew(&self, readings: &impl Readings) -> u64 {
        loop {
            let (words, writes) = self.words.read();
            let old = Anchor::from_words(words);
            let ticks = readings.counter().wrapping_sub(old.counter);
            if ticks < self.period {
                return old.after(ticks, self.scale);
            }
            let last = old.after(self.period, self.scale);
            let new = compare(readings, ticks_of(LONG, self.period), last);
            // Another thread writes: for that moment time stands still here, at the end of the old period.
            let Some(_writes) = try_lock(&self.writer) else { return last };
            if self.words.read().1 == writes {
                self.words.write(new.to_words(), || ());
                return new.after(0, self.scale);
            }
        }
    }
}

/// Returns `nanos` in ticks of a counter that has `period` ticks in a [`PERIOD`].
fn ticks_of(nanos: u64, period: u64) -> u64 {
    (u128::from(nanos) * u128::from(period) / u128::from(PERIOD)) as u64
}

/// Reads both clocks. The system clock is read first. A thread that is suspended between the two
/// reads is then behind the time, never ahead of it. A limit may end late by that difference.
fn compare(readings: &impl Readings, long: u64, floor: u64) -> Anchor {
    let mut left = COMPARISONS;
    loop {
        let before = readings.counter();
        let system = readings.system();
        let counter = readings.counter();
        left -= 1;
        if counter.wrapping_sub(before) <= long || left == 0 {
            return Anchor { counter, system, floor };
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;

#[cfg(all(test, buttress_loom))]
mod loom_tests;
