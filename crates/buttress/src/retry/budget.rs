//! How many retries there may be among all calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::counters::Counters;
use crate::invalid_config::{InvalidConfig, check_duration, check_range};
use crate::sync::{Mutex, lock};

/// Limits retries to a share of the recent calls, plus a floor, so that retries cannot multiply the
/// load of a service that fails for everybody. Clones share one budget: give the same one to every
/// layer that calls the same service.
///
/// In any `window` there are at most `share x calls + floor x window` retries. A call costs the budget
/// one addition; time is read only when a retry is asked for, and calls since the last time are then
/// taken to have come evenly.
///
/// ```
/// use buttress::retry::Budget;
/// // One retry for every five calls, and at least three a second.
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
    /// Calls since the last withdrawal.
    calls: Counters<1>,
    ledger: Mutex<Ledger>,
}

impl Budget {
    /// `share` of the calls of the last ten seconds may be retried, and `floor` a second whatever the
    /// calls. Ten seconds is long enough to smooth a burst and short enough to forget it.
    ///
    /// # Errors
    /// A share that is not between 0 and 1000.
    pub fn new(share: f64, floor: u32) -> Result<Self, InvalidConfig> {
        Self::with_window(share, floor, Duration::from_secs(10))
    }

    /// The same over another window.
    ///
    /// # Errors
    /// A share that is not between 0 and 1000, or a window of zero.
    pub fn with_window(share: f64, floor: u32, window: Duration) -> Result<Self, InvalidConfig> {
        check_range("share", share, 0.0, 1000.0)?;
        check_duration("window", window)?;
        let ledger = Mutex::new(Ledger::new(window));
        Ok(Self { inner: Arc::new(Inner { share, floor, calls: Counters::new(), ledger }) })
    }

    /// The books begin: calls counted from here on came after `now`.
    pub(super) fn open(&self, now: Instant) {
        lock(&self.inner.ledger).anchor.get_or_insert(now);
    }

    /// Counts a call.
    #[inline]
    pub fn deposit(&self) {
        self.inner.calls.add(0);
    }

    /// Takes a retry from the budget; false if there is none left.
    #[must_use]
    pub fn try_withdraw(&self, now: Instant) -> bool {
        let Inner { share, floor, calls, ledger } = &*self.inner;
        let mut ledger = lock(ledger);
        // Taken under the lock, so that each call is entered once.
        let calls = calls.take(0);
        ledger.withdraw(calls, *share, *floor, now)
    }
}

/// Slices of the window.
const SLICES: usize = 10;
/// Retries are remembered for one slice more, so that none is forgotten before it is a whole window old.
/// Calls are forgotten a slice early: what is not surely recent pays for nothing.
const KEPT: usize = SLICES + 1;

/// The calls and retries of the last window, in slices.
#[derive(Debug)]
struct Ledger {
    slice: u64,
    anchor: Option<Instant>,
    /// When the books were last brought up to date, in nanoseconds since the anchor.
    settled: u64,
    slices: [Entry; KEPT],
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    number: u64,
    calls: f64,
    retries: u64,
    /// Until a whole window after it, all of them count.
    last_retry: u64,
}

impl Ledger {
    fn new(window: Duration) -> Self {
        let slice = (clock::to_nanos(window) / SLICES as u64).max(1);
        Self { slice, anchor: None, settled: 0, slices: [Entry::default(); KEPT] }
    }

    /// Enters `calls` made since the last time, then takes a retry if there is one.
    fn withdraw(&mut self, calls: u64, share: f64, floor: u32, now: Instant) -> bool {
        let anchor = *self.anchor.get_or_insert(now);
        let now = clock::nanos_since(anchor, now).max(self.settled);
        self.enter(calls, now);
        let window = self.slice * SLICES as u64;
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
        let allowed = share * recent + f64::from(floor) * (window as f64 / 1e9);
        // A hair of tolerance, or 0.2 x 5 calls may be just below one retry.
        let left = used as f64 + 1.0 <= allowed + 1e-9;
        if left {
            let entry = self.at(newest);
            entry.retries += 1;
            entry.last_retry = now;
        }
        left
    }

    /// Spreads the calls evenly over the slices since the last time; those older than the window are
    /// forgotten with their share of the calls.
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

    /// The entry of a slice, emptied if it stood for an earlier one.
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_floor_is_there_from_the_start_and_comes_back() {
        let (budget, start) = (Budget::new(0.0, 1).unwrap(), origin());
        assert_eq!((0..20).filter(|_| budget.try_withdraw(start)).count(), 10);
        let second = Duration::from_secs(1);
        assert!(!budget.try_withdraw(start + second * 9));
        assert!(budget.try_withdraw(start + second * 10), "the window has passed");
    }

    #[test]
    fn two_windows_cannot_be_spent_across_their_border() {
        // Found in review: 30 retries at 0.999 s and 30 more at 10 s made 60 within 9 s.
        let (budget, start) = (Budget::new(0.0, 3).unwrap(), origin());
        budget.open(start);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!((0..40).filter(|_| budget.try_withdraw(at(999))).count(), 30);
        assert_eq!((0..40).filter(|_| budget.try_withdraw(at(10_000))).count(), 0);
        assert_eq!((0..40).filter(|_| budget.try_withdraw(at(10_999))).count(), 30);
    }

    #[test]
    fn a_fifth_of_the_calls_and_no_more() {
        let (budget, start) = (Budget::new(0.2, 0).unwrap(), origin());
        assert!(!budget.try_withdraw(start), "nothing was called");
        (0..50).for_each(|_| budget.deposit());
        assert_eq!((0..50).filter(|_| budget.try_withdraw(start)).count(), 10);
    }

    #[test]
    fn calls_of_long_ago_do_not_pay_for_a_storm() {
        let (budget, start) = (Budget::new(0.2, 0).unwrap(), origin());
        budget.open(start);
        // An hour without a failure: 360 calls in each ten seconds.
        (0..36 * 3600).for_each(|_| budget.deposit());
        let now = start + Duration::from_secs(3600);
        let granted = (0..10_000).filter(|_| budget.try_withdraw(now)).count();
        assert!(
            (64..=72).contains(&granted),
            "a fifth of the last 324 to 360, not of the hour: {granted}"
        );
    }

    #[test]
    fn bad_numbers_are_named() {
        assert_eq!(Budget::new(-0.1, 0).unwrap_err().field(), "share");
        assert_eq!(Budget::new(f64::NAN, 0).unwrap_err().field(), "share");
        let error = Budget::with_window(0.1, 0, Duration::ZERO).unwrap_err();
        assert_eq!(error.field(), "window");
    }

    proptest! {
        /// Against lists of calls and retries with their times, brought up to date at every step, where
        /// nothing has to be spread.
        #[test]
        fn a_budget_is_its_definition(
            share in 0u32..5,
            floor in 0u32..2,
            steps in prop::collection::vec((0u64..3000, 0u64..8, 0u32..6), 1..80),
        ) {
            // Shares of a quarter, so that sums are exact.
            let share = f64::from(share) / 4.0;
            let (budget, start) = (Budget::new(share, floor).unwrap(), origin());
            budget.open(start);
            let (mut now, mut calls, mut retries) = (0u64, Vec::new(), Vec::<u64>::new());
            for (pause, deposits, withdrawals) in steps {
                now += pause;
                let at = start + Duration::from_millis(now);
                // Settles the books at this instant before the calls come, and takes what there is.
                let settle = |retries: &mut Vec<u64>, calls: &[(u64, u64)]| {
                    let recent = calls.iter().filter(|(time, _)| now / 1000 - time / 1000 < 10);
                    let recent: u64 = recent.map(|(_, count)| count).sum();
                    // A slice's retries count until its last one is ten seconds old.
                    let last = |time: &u64| {
                        retries.iter().filter(|t| *t / 1000 == time / 1000).max().copied()
                    };
                    let used = retries.iter().filter(|time| last(time) > now.checked_sub(10_000));
                    let allowed = share * recent as f64 + f64::from(floor) * 10.0;
                    let left = used.count() as f64 + 1.0 <= allowed;
                    if left {
                        retries.push(now);
                    }
                    left
                };
                let expected = settle(&mut retries, &calls);
                prop_assert_eq!(budget.try_withdraw(at), expected);
                (0..deposits).for_each(|_| budget.deposit());
                calls.push((now, deposits));
                for _ in 0..=withdrawals {
                    let expected = settle(&mut retries, &calls);
                    prop_assert_eq!(budget.try_withdraw(at), expected, "at {}", now);
                }
            }
        }

        /// Over everything that happened: never more than the share of all calls and the floor for the
        /// windows touched.
        #[test]
        fn never_more_than_the_share_and_the_floor(
            share in 0.0f64..1.0,
            floor in 0u32..3,
            steps in prop::collection::vec((0u64..5000, 0u32..20, 0u32..20), 1..60),
        ) {
            let (budget, start) = (Budget::new(share, floor).unwrap(), origin());
            let (mut now, mut calls, mut retries) = (0u64, 0u64, 0u64);
            for (pause, deposits, withdrawals) in steps {
                now += pause;
                (0..deposits).for_each(|_| budget.deposit());
                calls += u64::from(deposits);
                let at = start + Duration::from_millis(now);
                retries += (0..withdrawals).filter(|_| budget.try_withdraw(at)).count() as u64;
                let windows = now / 10_000 + 2;
                let most = share * calls as f64 + f64::from(floor) * 10.0 * windows as f64;
                prop_assert!(retries as f64 <= most + 1.0, "{retries} of {most}");
            }
        }
    }
}
