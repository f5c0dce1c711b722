use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

/// A step of the clocks between two reads of the time.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The system clock and the counter both move, by this number of nanoseconds.
    Passes(u64),
    /// The counter jumps ahead, or back if negative.
    Jumps(i64),
    /// The next comparisons are interrupted between their two reads.
    Suspends(u64),
}

/// A system clock, and a counter of nanoseconds that drifts.
#[derive(Debug, Default)]
struct Simulated {
    ppm: i64,
    system: Cell<u64>,
    jumps: Cell<i64>,
    suspends: Cell<u64>,
}

impl Simulated {
    fn drifting(ppm: i64) -> Self {
        let simulated = Self { ppm, ..Self::default() };
        simulated.system.set(5_000_000_000);
        simulated
    }

    fn pass(&self, nanos: u64) {
        self.system.set(self.system.get() + nanos);
    }
}

impl Readings for Simulated {
    fn counter(&self) -> u64 {
        let drift = self.system.get() as i64 / 1_000_000 * self.ppm;
        self.system.get().wrapping_add_signed(drift + self.jumps.get())
    }

    fn system(&self) -> u64 {
        let system = self.system.get();
        self.pass(self.suspends.take());
        system
    }
}

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
/// The promised bound for a counter that drifts by at most 100 ppm.
const BOUND: u64 = 1_000;

fn pauses() -> impl Strategy<Value = Vec<u64>> {
    let pause = prop_oneof![0..2_000u64, 0..2 * PERIOD, 0..SECOND, 0..3_600 * SECOND];
    prop::collection::vec(pause, 1..300)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let far = PERIOD as i64 * 2;
    let step = prop_oneof![
        4 => (0..2 * PERIOD).prop_map(Step::Passes),
        4 => (0..2_000u64).prop_map(Step::Passes),
        1 => (far..3_600_000_000_000i64).prop_map(Step::Jumps),
        1 => (-3_600_000_000_000i64..-far).prop_map(Step::Jumps),
        1 => (0..20 * PERIOD).prop_map(Step::Suspends),
    ];
    prop::collection::vec(step, 1..300)
}

#[test]
fn a_counter_wrong_by_100_ppm_is_right_at_every_read_of_a_day() {
    for ppm in [-100, 100] {
        let clocks = Simulated::drifting(ppm);
        let anchors = Anchors::new(1 << 32, &clocks);
        let mut before = 0;
        // Steps that meet every part of a period.
        while clocks.system.get() < DAY {
            clocks.pass(3_000_007_919);
            for _ in 0..3 {
                clocks.pass(271_828);
                let now = anchors.now(&clocks);
                assert!(now.abs_diff(clocks.system.get()) <= BOUND, "{ppm} ppm");
                assert!(now >= before, "{ppm} ppm: {now} after {before}");
                before = now;
            }
        }
    }
}

#[test]
fn a_comparison_that_is_interrupted_is_made_again() {
    let clocks = Simulated::drifting(0);
    let anchors = Anchors::new(1 << 32, &clocks);
    clocks.pass(2 * PERIOD);
    clocks.suspends.set(50 * PERIOD);
    assert_eq!(anchors.now(&clocks), clocks.system.get());
}

#[test]
fn a_counter_that_jumps_is_ahead_by_one_period_at_most() {
    let clocks = Simulated::drifting(0);
    let anchors = Anchors::new(1 << 32, &clocks);
    clocks.jumps.set(3_600 * SECOND as i64);
    let now = anchors.now(&clocks);
    assert_eq!(now, clocks.system.get() + PERIOD);
    // The clock stands still until the system clock has reached it.
    clocks.pass(PERIOD / 2);
    assert_eq!(anchors.now(&clocks), now);
    clocks.pass(PERIOD);
    assert_eq!(anchors.now(&clocks), clocks.system.get());
    // The counter jumps back by hours: the clock detects this too.
    clocks.jumps.set(0);
    clocks.pass(10 * PERIOD);
    assert!(anchors.now(&clocks) <= clocks.system.get() + PERIOD);
    clocks.pass(2 * PERIOD);
    assert_eq!(anchors.now(&clocks), clocks.system.get());
}

#[test]
fn two_threads_that_read_a_counter_never_see_time_go_back() {
    /// A counter that all threads move, beside a system clock that is far slower.
    struct Shared(AtomicU64);
    impl Readings for Shared {
        fn counter(&self) -> u64 {
            self.0.fetch_add(PERIOD / 16, Ordering::SeqCst)
        }
        fn system(&self) -> u64 {
            self.0.load(Ordering::SeqCst) / 2
        }
    }
    let clocks = Shared(AtomicU64::new(0));
    let anchors = Anchors::new(1 << 32, &clocks);
    let latest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let told = latest.load(Ordering::SeqCst);
                    let now = anchors.now(&clocks);
                    assert!(now >= told, "{now} after {told}");
                    latest.fetch_max(now, Ordering::SeqCst);
                }
            });
        }
    });
}

#[test]
fn scales_that_no_cpu_has_do_not_overflow() {
    for scale in [0, 1, 1 << 31, 1 << 42, u64::MAX] {
        let clocks = Simulated::drifting(0);
        let anchors = Anchors::new(scale, &clocks);
        let mut before = 0;
        for _ in 0..100 {
            clocks.pass(PERIOD / 3);
            let now = anchors.now(&clocks);
            assert!(now >= before, "{now} after {before}");
            before = now;
        }
    }
}

proptest! {
    #[test]
    fn a_drift_up_to_100_ppm_moves_no_read_by_more_than_the_bound(
        ppm in -100i64..=100,
        pauses in pauses(),
    ) {
        let clocks = Simulated::drifting(ppm);
        let anchors = Anchors::new(1 << 32, &clocks);
        let mut before = 0;
        for pause in pauses {
            clocks.pass(pause);
            let now = anchors.now(&clocks);
            prop_assert!(now.abs_diff(clocks.system.get()) <= BOUND);
            prop_assert!(now >= before);
            before = now;
        }
    }

    #[test]
    fn time_never_goes_back_whatever_the_clocks_do(ppm in -100i64..=100, steps in steps()) {
        let clocks = Simulated::drifting(ppm);
        let anchors = Anchors::new(1 << 32, &clocks);
        let mut before = 0;
        for step in steps {
            match step {
                Step::Passes(nanos) => clocks.pass(nanos),
                Step::Jumps(by) => clocks.jumps.set(clocks.jumps.get() + by),
                Step::Suspends(nanos) => clocks.suspends.set(nanos),
            }
            let now = anchors.now(&clocks);
            prop_assert!(now >= before);
            prop_assert!(now <= clocks.system.get() + PERIOD + BOUND);
            before = now;
        }
        // The clocks agree again, one period after the last comparison.
        clocks.suspends.set(0);
        clocks.pass(2 * PERIOD);
        anchors.now(&clocks);
        clocks.pass(2 * PERIOD);
        prop_assert!(anchors.now(&clocks).abs_diff(clocks.system.get()) <= BOUND);
    }
}
