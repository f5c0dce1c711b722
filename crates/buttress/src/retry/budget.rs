//! [`Budget`]: limits how many retries all calls together may make.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::machinery::counters::{Counters, counters};
use crate::sync::{Mutex, lock};
use crate::vocabulary::clock;
use crate::vocabulary::invalid_config::{InvalidConfig, check_duration, check_range};

counters! {
    enum Counter {
        Calls,
    }
}

/// A budget that limits retries to a share of the recent calls, plus a floor, so that retries cannot
/// multiply the load of a failing service.
///
/// Clones share one budget. Set the same budget on every layer that calls the same service.
///
/// In any `window` there are at most `share x calls + floor x window` retries. A call costs the
/// budget one addition. Only a retry reads the time. The calls since the last reading then count as
/// evenly distributed over it.
///
/// ```
/// use buttress::retry::Budget;
/// // One retry for every five calls, and at least three per second.
/// let budget = Budget::new(0.2, 3)?;
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    share: f64,
    floor: u32,
    /// Calls that are not yet in the ledger.
    calls: Counters<Counter>,
    ledger: Mutex<Ledger>,
}

impl Budget {
    /// Creates a budget of `share` of the calls of the last ten seconds, plus `floor` retries per
    /// second.
    ///
    /// The floor does not depend on the calls. Ten seconds smooth a burst, and are short enough to
    /// forget it.
    ///
    /// # Errors
    /// Returns an error for a share that is not between 0 and 1000.
    pub fn new(share: f64, floor: u32) -> Result<Self, InvalidConfig> {
        Self::with_window(share, floor, Duration::from_secs(10))
    }

    /// Creates a budget over the calls of the last `window`.
    ///
    /// With a floor, the window must be at least one second divided by the floor. In a shorter
    /// window the floor would be less than one retry, which is never granted.
    ///
    /// # Errors
    /// Returns an error for a share that is not between 0 and 1000, a window of zero, or a window
    /// that is too short for the floor.
    pub fn with_window(share: f64, floor: u32, window: Duration) -> Result<Self, InvalidConfig> {
        check_range("share", share, 0.0, 1000.0)?;
        check_duration("window", window)?;
        let shortest = shortest_window(floor);
        if window < shortest {
            let bound = format!("at least {shortest:?}, 1 second divided by the floor of {floor}");
            return Err(InvalidConfig::new("window", format!("{window:?}"), bound));
        }
        let ledger = Mutex::new(Ledger::new(window));
        Ok(Self { inner: Arc::new(Inner { share, floor, calls: Counters::new(), ledger }) })
    }

    /// Sets the start of the ledger to `now`, unless it has one: calls from here on came after
    /// `now`.
    pub(super) fn open(&self, now: Instant) {
        lock(&self.inner.ledger).anchor.get_or_insert(now);
    }

    /// Counts a call.
    #[inline]
    pub fn deposit(&self) {
        self.inner.calls.add(Counter::Calls);
    }

    /// Takes a retry from the budget. Returns `false` if none is left.
    #[must_use]
    pub fn try_withdraw(&self, now: Instant) -> bool {
        let Inner { share, floor, calls, ledger } = &*self.inner;
        let mut ledger = lock(ledger);
        // Under the lock, so that each call is entered once.
        let calls = calls.take(Counter::Calls);
        ledger.withdraw(calls, *share, *floor, now)
    }

    /// Returns how many retries are left at `now`. The budget grants as many withdrawals if no call
    /// is made in between. Reading changes nothing.
    #[must_use]
    pub fn balance(&self, now: Instant) -> u64 {
        let Inner { share, floor, calls, ledger } = &*self.inner;
        // Both are read under the lock. Calls that are entered meanwhile would otherwise be missing
        // or counted twice.
        let (calls, mut ledger) = {
            let ledger = lock(ledger);
            (calls.sum(Counter::Calls), ledger.clone())
        };
        let (used, allowed) = ledger.settle(calls, *share, *floor, now);
        allowed.saturating_sub(used)
    }
}

/// Returns the shortest window in which a floor of `floor` retries per second is one retry.
fn shortest_window(floor: u32) -> Duration {
    match floor {
        0 => Duration::ZERO,
        floor => Duration::from_nanos(1_000_000_000u64.div_ceil(floor.into())),
    }
}

/// The number of slices of the window.
const SLICES: usize = 10;
/// Retries are kept for one slice more, so that each counts for at least a whole window. Calls are
/// dropped one slice early: only calls that are surely recent earn retries.
const KEPT: usize = SLICES + 1;

/// The calls and retries of the last window, in slices.
#[derive(Clone, Debug)]
struct Ledger {
    /// The configured window in seconds, for the floor.
    seconds: f64,
    slice: u64,
    anchor: Option<Instant>,
    /// The time of the last entry, in nanoseconds since the anchor.
    settled: u64,
    slices: [Entry; KEPT],
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    number: u64,
    calls: f64,
    retries: u64,
    /// All retries of the slice count until one window after this time.
    last_retry: u64,
}

impl Ledger {
    fn new(window: Duration) -> Self {
        // Rounded up, so that the slices together are never shorter than the window.
        let slice = clock::to_nanos(window).div_ceil(SLICES as u64);
        Self {
            seconds: window.as_secs_f64(),
            slice,
            anchor: None,
            settled: 0,
            slices: [Entry::default(); KEPT],
        }
    }

    /// Takes a retry if one is left, after entering `calls` new calls.
    fn withdraw(&mut self, calls: u64, share: f64, floor: u32, now: Instant) -> bool {
        let (used, allowed) = self.settle(calls, share, floor, now);
        let left = used < allowed;
        if left {
            let now = self.settled;
            let entry = self.at(now / self.slice);
            entry.retries += 1;
            entry.last_retry = now;
        }
        left
    }

    /// Enters `calls` new calls. Returns how many retries were made in the window, and how many are
    /// allowed.
    fn settle(&mut self, calls: u64, share: f64, floor: u32, now: Instant) -> (u64, u64) {
        let anchor = *self.anchor.get_or_insert(now);
        let now = clock::nanos_since(anchor, now).max(self.settled);
        self.enter(calls, now);
        let window = self.slice.saturating_mul(SLICES as u64);
        let (mut recent, mut used) = (0.0, 0u64);
        let newest = now / self.slice;
        for entry in self.slices.iter().filter(|entry| newest - entry.number < KEPT as u64) {
            if entry.last_retry + window > now {
                used += entry.retries;
            }
            if newest - entry.number < SLICES as u64 {
                recent += entry.calls;
            }
        }
        let allowed = share * recent + f64::from(floor) * self.seconds;
        // A small tolerance: without it, 0.2 x 5 calls may be just below one retry.
        (used, (allowed + 1e-9) as u64)
    }

    /// Spreads the calls evenly over the slices since the last entry. Slices older than the window
    /// drop their share of the calls.
    fn enter(&mut self, calls: u64, now: u64) {
        let span = now - self.settled;
        let newest = now / self.slice;
        if span == 0 {
            self.at(newest).calls += calls as f64;
        } else {
            let oldest = (self.settled / self.slice).max(newest.saturating_sub(SLICES as u64 - 1));
            for number in oldest..=newest {
                let from = (number * self.slice).max(self.settled);
                let to = ((number + 1) * self.slice).min(now);
                let part = to.saturating_sub(from) as f64 / span as f64;
                self.at(number).calls += calls as f64 * part;
            }
        }
        self.settled = now;
    }

    /// Returns the entry of a slice, emptied if it belonged to an earlier slice.
    fn at(&mut self, number: u64) -> &mut Entry {
        let [first, rest @ ..] = &mut self.slices;
        let index = (number % KEPT as u64) as usize;
        let entry = match index.checked_sub(1) {
            Some(index) => rest.get_mut(index).unwrap_or(first),
            None => first,
        };
        if entry.number != number {
            *entry = Entry { number, ..Entry::default() };
        }
        entry
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;
