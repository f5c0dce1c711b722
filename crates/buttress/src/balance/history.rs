//! The history of one endpoint: latency, pending calls, failures. Every call writes the history without a
//! lock.

use std::sync::OnceLock;
use std::time::Duration;

use super::outliers::Outliers;
use super::penalty::Penalty;
use crate::machinery::window::{LONGEST_STREAK, Sample, Streak, TimeWindow};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::vocabulary::clock;
use crate::vocabulary::rng::Rng;

/// The time in which the measure of an idle endpoint falls to 1/e, in nanoseconds.
pub(super) const DECAY: f64 = 10e9;
/// The least measure of an endpoint that has answered no call, in nanoseconds.
const SEED: f64 = 1e6;
/// A failure raises the measure up to this many times the load of the other endpoints, which it forgets in 30 s.
pub(super) const FAILED: f64 = 20.0;
/// A failure raises the measure up to this, in nanoseconds.
const MOST: f64 = 10e9;

/// The latency of an endpoint: the largest of its answers, each of which counts less the older it is.
///
/// An answer that took `l` at the instant `t` counts as `l * exp((t - now) / DECAY)` now. All of these fall alike, so
/// the largest stays the largest, and one word can keep it: its *level*, `t + DECAY * ln(l)`. An answer raises the
/// word to its own level, or leaves it. Two endpoints compare by their levels at any time, without a clock.
#[derive(Debug)]
pub(super) struct Measure(AtomicU64);

impl Measure {
    /// Begins with the level of a guess: the mean of `others`, but at least 1 ms.
    pub(super) fn guess(now: u64, others: &[u64]) -> Self {
        let sum: u128 = others.iter().map(|level| u128::from(*level)).sum();
        let mean = sum.checked_div(others.len() as u128).unwrap_or_default() as u64;
        Self(AtomicU64::new(mean.max(level(now, SEED))))
    }

    pub(super) fn level(&self) -> u64 {
        // Relaxed: an estimate that orders nothing else.
        self.0.load(Ordering::Relaxed)
    }

    /// Counts a call that took `took` nanoseconds.
    #[inline]
    pub(super) fn took(&self, now: u64, took: u64) {
        self.raise(level(now, took as f64));
    }

    /// Counts a call that failed after `took` nanoseconds. It doubles the measure, because an endpoint that fails fast
    /// must not look fast. `others` is the mean load of the other endpoints, as a level. Without others there is no
    /// choice to guard.
    pub(super) fn failed(&self, now: u64, took: u64, others: Option<u64>) {
        let doubled = self.level().saturating_add((DECAY * std::f64::consts::LN_2) as u64);
        let bound = |others: u64| others.saturating_add((DECAY * FAILED.ln()) as u64);
        let bound = others.map_or(0, bound).min(level(now, MOST));
        self.raise(doubled.min(bound).max(level(now, took as f64)));
    }

    /// Counts a call whose result says nothing about the endpoint. Such results can come fast, so the endpoint looks no
    /// faster than the mean of the `others`, and no slower either.
    pub(super) fn ignored(&self, now: u64, took: u64, others: Option<u64>) {
        self.raise(others.unwrap_or_default().min(level(now, MOST)).max(level(now, took as f64)));
    }

    /// Most answers are below the level and write nothing.
    #[inline]
    fn raise(&self, level: u64) {
        if level > self.level() {
            self.0.fetch_max(level, Ordering::Relaxed);
        }
    }

    /// Returns the measure at `now`.
    pub(super) fn at(&self, now: u64) -> Duration {
        let nanos = ((self.level() as f64 - now as f64) / DECAY).exp();
        Duration::from_nanos(nanos.round() as u64)
    }
}

/// Returns the level of the latency `nanos` at `now`.
#[inline]
fn level(now: u64, nanos: f64) -> u64 {
    now.saturating_add((DECAY * nanos.max(1.0).ln()) as u64)
}

/// The history of one endpoint. It outlives the endpoint, because an endpoint that comes back under its address
/// continues it.
#[derive(Debug)]
pub(super) struct History {
    /// The number of this history in the process.
    pub serial: u64,
    /// The hash of the id, the same in every process.
    pub key: u64,
    pub measure: Measure,
    pub penalty: Penalty,
    pending: AtomicU32,
    /// Failures of `poll_ready` since the endpoint was ready.
    unready: AtomicU32,
    /// Raised when the endpoint goes out and when it comes back. The result of a call that began before changes
    /// nothing.
    epoch: AtomicU32,
    streak: AtomicU64,
    /// Made by the first call that counts.
    window: OnceLock<TimeWindow>,
    pub calls: AtomicU64,
    pub failures: AtomicU64,
}

impl History {
    pub(super) fn new(id: &str, now: u64, others: &[u64]) -> Self {
        // A plain number that orders nothing: std's, so that a model of loom can use it too.
        static SERIAL: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        Self {
            serial: SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            key: stable_hash(id),
            measure: Measure::guess(now, others),
            penalty: Penalty::default(),
            pending: AtomicU32::new(0),
            unready: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            streak: AtomicU64::new(0),
            window: OnceLock::new(),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn pending(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn begin(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn end(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Counts a success.
    #[inline]
    pub(super) fn succeeded(&self, epoch: u32, now: u64, rules: Duration) {
        if Streak::record(&self.streak, epoch, false).is_some() {
            let window = self.window(rules);
            if !window.count_good(epoch, now) {
                window.record(epoch, Sample { failed: false, slow: false }, now);
            }
        }
    }

    /// Counts a failure. Returns `true` if the endpoint must go out by `rules`.
    pub(super) fn failed(&self, epoch: u32, now: u64, rules: &Outliers) -> bool {
        let Some(streak) = Streak::record(&self.streak, epoch, true) else { return false };
        let window = self.window(rules.window);
        window.record(epoch, Sample { failed: true, slow: false }, now);
        if streak.failed >= u64::from(rules.consecutive_failures.min(LONGEST_STREAK)) {
            return true;
        }
        let tally = window.tally(epoch, now);
        tally.total >= u64::from(rules.minimum_calls)
            && tally.failed as f64 >= rules.failure_rate * tally.total as f64
    }

    fn window(&self, length: Duration) -> &TimeWindow {
        self.window.get_or_init(|| {
            let window = TimeWindow::new(length);
            window.reset(self.epoch());
            window
        })
    }

    /// Forgets the results so far, and the results of calls that run now. The caller holds the lock of the state.
    pub(super) fn forget_results(&self) {
        let epoch = self.epoch().wrapping_add(1);
        self.epoch.store(epoch, Ordering::Relaxed);
        Streak::reset(&self.streak, epoch);
        if let Some(window) = self.window.get() {
            window.reset(epoch);
        }
    }

    /// Counts a failure of `poll_ready`, and returns how many there were in a row.
    pub(super) fn was_unready(&self) -> u32 {
        // A lone counter below 2^32: the wait between two failures is 100 ms or longer.
        self.unready.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    #[inline]
    pub(super) fn was_ready(&self) {
        if self.unready.load(Ordering::Relaxed) != 0 {
            self.unready.store(0, Ordering::Relaxed);
        }
    }
}

/// Returns a hash of `text` that is the same in every process: FNV-1a (Fowler, Noll and Vo) of 64 bits, mixed.
fn stable_hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mix(text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}

/// The finalizer of `SplitMix64`: every bit of the result depends on every bit of `word`.
#[inline]
pub(super) fn mix(word: u64) -> u64 {
    Rng::mix(word.wrapping_add(Rng::STEP))
}

/// Returns a duration in nanoseconds, as the state counts time.
pub(super) fn nanos(duration: Duration) -> u64 {
    clock::to_nanos(duration)
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1000 * MS;

    fn near(measure: &Measure, now: u64, expected: Duration) {
        let found = measure.at(now);
        assert!(found.abs_diff(expected) < expected / 1000, "{found:?}, expected {expected:?}");
    }

    #[test]
    fn a_slower_answer_counts_immediately_and_a_faster_one_as_the_measure_falls() {
        let measure = Measure::guess(0, &[]);
        near(&measure, 0, Duration::from_millis(1));
        measure.took(0, 100 * MS);
        near(&measure, 0, Duration::from_millis(100));
        measure.took(SECOND, 10 * MS);
        near(&measure, SECOND, Duration::from_micros(90_484)); // 100 ms / e^0.1
        measure.took(10 * SECOND, 10 * MS);
        near(&measure, 10 * SECOND, Duration::from_micros(36_788)); // 100 ms / e
        measure.took(24 * SECOND, 10 * MS);
        near(&measure, 24 * SECOND, Duration::from_millis(10)); // 100 ms / e^2.4 is less
    }

    #[test]
    fn the_word_is_the_largest_of_all_answers_each_of_which_falls() {
        // The naive model: every answer is kept.
        proptest::proptest!(|(answers in proptest::collection::vec((0_u64..40_000, 1_u64..5_000), 1..50))| {
            let (measure, mut now, mut kept) = (Measure::guess(0, &[]), 0, vec![(0, SEED)]);
            for (wait, took) in answers {
                now += wait * MS;
                measure.took(now, took * MS);
                kept.push((now, (took * MS) as f64));
                let aged = kept.iter().map(|(at, took)| took * (-((now - at) as f64) / DECAY).exp());
                let expected = aged.fold(0.0, f64::max);
                let found = measure.at(now).as_nanos() as f64;
                proptest::prop_assert!((found - expected).abs() <= expected / 1e6 + 1.0);
            }
        });
    }

    #[test]
    fn a_failure_doubles_the_measure_up_to_twenty_times_the_others() {
        let measure = Measure::guess(0, &[]);
        let others = |took: u64| Some(level(0, (took * MS) as f64));
        measure.took(0, 10 * MS);
        measure.failed(0, MS, None);
        near(&measure, 0, Duration::from_millis(10));
        measure.failed(0, MS, others(10));
        near(&measure, 0, Duration::from_millis(20));
        (0..20).for_each(|_| measure.failed(0, MS, others(10)));
        near(&measure, 0, Duration::from_millis(200));
        measure.failed(0, MS, others(1));
        near(&measure, 0, Duration::from_millis(200));
        (0..20).for_each(|_| measure.failed(0, MS, others(2_000)));
        near(&measure, 0, Duration::from_secs(10));
        measure.failed(0, 30 * SECOND, None);
        near(&measure, 0, Duration::from_secs(30));
    }

    #[test]
    fn a_new_endpoint_is_guessed_to_be_like_the_others() {
        let one = Measure::guess(0, &[]);
        one.took(0, 100 * MS);
        let guess = Measure::guess(SECOND, &[one.level(), one.level()]);
        near(&guess, SECOND, Duration::from_micros(90_484));
        let fast = Measure::guess(0, &[]);
        fast.took(0, 1);
        near(&Measure::guess(60 * SECOND, &[fast.level()]), 60 * SECOND, Duration::from_millis(1));
    }

    #[test]
    fn a_call_that_began_before_an_ejection_changes_nothing() {
        let (history, rules) = (History::new("a", 0, &[]), Outliers::new());
        let epoch = history.epoch();
        for _ in 0..4 {
            assert!(!history.failed(epoch, 0, &rules));
        }
        history.forget_results();
        assert!(!history.failed(epoch, 0, &rules), "the fifth, of an earlier epoch");
        let epoch = history.epoch();
        (0..4).for_each(|_| assert!(!history.failed(epoch, 0, &rules)));
        assert!(history.failed(epoch, 0, &rules));
    }

    #[test]
    fn a_share_of_failures_counts_from_the_least_number_of_calls() {
        let (history, rules) = (History::new("a", 0, &[]), Outliers::new());
        let (epoch, window) = (history.epoch(), rules.window);
        for _ in 0..9 {
            history.succeeded(epoch, 0, window);
            assert!(!history.failed(epoch, 0, &rules));
        }
        history.succeeded(epoch, 0, window);
        assert!(history.failed(epoch, 0, &rules), "10 of 20");

        let history = History::new("b", 0, &[]);
        for _ in 0..9 {
            history.succeeded(epoch, 0, window);
            assert!(!history.failed(epoch, 0, &rules));
        }
        let later = 11 * SECOND;
        history.succeeded(epoch, later, window);
        assert!(!history.failed(epoch, later, &rules), "the others are 11 seconds old");
    }

    #[test]
    fn ids_hash_alike_in_every_process() {
        assert_eq!(stable_hash("orders-1"), stable_hash("orders-1"));
        assert_ne!(stable_hash("orders-1"), stable_hash("orders-2"));
        // FNV-1a of the empty text is its offset.
        assert_eq!(stable_hash(""), mix(0xcbf2_9ce4_8422_2325));
    }
}
