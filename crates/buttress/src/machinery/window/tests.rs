use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::alone::{Calls, Failures};
use super::count::LAPS;
use super::time::SLICES;
use super::*;

const GOOD: Sample = Sample { failed: false, slow: false };
const BAD: Sample = Sample { failed: true, slow: false };

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let sample = (prop::bool::weighted(0.2), prop::bool::weighted(0.2))
        .prop_map(|(failed, slow)| Sample { failed, slow });
    prop::collection::vec(sample, 0..300)
}

#[test]
fn fifty_failures_open_half_of_a_hundred_however_many_successes_went_before() {
    let window = Calls::new(100);
    for _ in 0..100_000 {
        window.record(0, GOOD);
    }
    for failures in 1..=50u64 {
        let tally = window.record(0, BAD).unwrap();
        assert_eq!(tally, Tally { total: 100, failed: failures, slow: 0 });
    }
}

#[test]
fn laps_of_the_smallest_window_wrap_around() {
    let window = Calls::new(1);
    for i in 0..(LAPS + 10) {
        let bad = i % 2 == 0;
        let tally = window.record(0, if bad { BAD } else { GOOD }).unwrap();
        assert_eq!((tally.total, tally.failed), (1, u64::from(bad)));
    }
}

#[test]
fn the_largest_window_holds_as_many_failures_as_calls() {
    let window = Calls::new(LARGEST_COUNT);
    let worst = Sample { failed: true, slow: true };
    let all = u64::from(LARGEST_COUNT);
    for call in 1..=3 * all {
        let count = call.min(all);
        let tally = window.record(0, worst).unwrap();
        assert_eq!(tally, Tally { total: count, failed: count, slow: count });
    }
    for call in 1..=all {
        let tally = window.record(0, GOOD).unwrap();
        assert_eq!(tally, Tally { total: all, failed: all - call, slow: all - call });
    }
}

#[test]
fn resets_without_number_leave_the_slots_usable() {
    // Regression: a slot that was not written for more than half of all laps looked newer than the
    // present lap. It was never written again, and the next lap waited for it forever.
    let window = Calls::new(3);
    (0..=LAPS / 2 + 10).for_each(|generation| window.reset(generation));
    let generation = LAPS / 2 + 10;
    for bad in [true, false, true, true, false, false, false] {
        window.record(generation, if bad { BAD } else { GOOD }).unwrap();
    }
    assert_eq!(window.snapshot(), Tally { total: 3, failed: 0, slow: 0 });
}

#[test]
fn another_generation_changes_nothing() {
    let window = Calls::new(3);
    window.record(0, BAD);
    window.reset(1);
    assert_eq!(window.record(0, BAD), None);
    assert_eq!(window.snapshot(), Tally::default());
    assert_eq!(window.record(1, BAD).unwrap().failed, 1);

    let streak = Failures::new();
    streak.record(0, true);
    streak.reset(1);
    assert_eq!(streak.record(0, true), None);
    assert_eq!(streak.snapshot(), Tally::default());
}

#[test]
fn a_window_of_time_forgets_at_its_length_at_the_latest() {
    let window = TimeWindow::new(Duration::from_nanos(1000));
    window.record(0, BAD, 49);
    assert_eq!(window.tally(0, 49).failed, 1);
    assert_eq!(window.tally(0, 999).failed, 1);
    assert_eq!(window.tally(0, 1000).failed, 0, "slice 0 ends where the window does");
    window.record(0, BAD, 1049);
    assert_eq!(window.tally(0, 1049), Tally { total: 1, failed: 1, slow: 0 });
    // A call whose clock went back is counted.
    window.record(0, GOOD, 49);
    assert_eq!(window.tally(0, 1049), Tally { total: 2, failed: 1, slow: 0 });
    window.reset(1);
    window.record(0, BAD, 1049);
    assert_eq!(window.tally(1, 1049).total, 0, "a late call of the generation before");
    window.record(1, BAD, 1049);
    assert_eq!(window.tally(1, 1049).total, 1);
}

#[test]
fn a_time_window_bears_a_clock_that_goes_back() {
    let window = TimeWindow::new(Duration::from_nanos(1000));
    window.record(0, BAD, 5000);
    assert_eq!(window.tally(0, 4000).failed, 1);
    window.record(0, BAD, u64::MAX);
    assert_eq!(window.tally(0, 0).failed, 2);
}

proptest! {
    /// Compares with a plain list of the last calls.
    #[test]
    fn a_count_window_is_the_last_calls(size in 1u32..20, samples in samples()) {
        let window = Calls::new(size);
        let mut last = VecDeque::new();
        for sample in samples {
            last.push_back(sample);
            if last.len() > size as usize {
                last.pop_front();
            }
            let count = |pick: fn(&Sample) -> bool| last.iter().filter(|s| pick(s)).count() as u64;
            let expected = Tally {
                total: last.len() as u64,
                failed: count(|s| s.failed),
                slow: count(|s| s.slow),
            };
            prop_assert_eq!(window.record(0, sample), Some(expected));
            prop_assert_eq!(window.snapshot(), expected);
        }
    }

    /// Compares with a plain list of calls with their times.
    #[test]
    fn a_time_window_is_the_last_slices(
        calls in prop::collection::vec((0u64..400, any::<bool>()), 0..200),
    ) {
        let window = TimeWindow::new(Duration::from_nanos(SLICES * 10));
        let (mut now, mut all) = (0u64, Vec::new());
        for (pause, failed) in calls {
            now += pause;
            window.record(0, Sample { failed, slow: false }, now);
            all.push((now, failed));
            let recent = || all.iter().filter(|(at, _)| now / 10 - at / 10 < SLICES);
            let tally = window.tally(0, now);
            prop_assert_eq!(tally.total, recent().count() as u64);
            prop_assert_eq!(tally.failed, recent().filter(|(_, failed)| *failed).count() as u64);
            // The promise of the slices for a sliding window: no call is older than the length, and
            // every call of the last 19 twentieths counts.
            prop_assert!(recent().all(|(at, _)| now - at < SLICES * 10));
            let sure = all.iter().filter(|(at, _)| now - at <= (SLICES - 1) * 10);
            prop_assert!(tally.total >= sure.count() as u64);
        }
    }
}
