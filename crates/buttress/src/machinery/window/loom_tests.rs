use std::time::Duration;

use super::alone::{Calls, Failures};
use super::time::SLICES;
use super::*;
use crate::sync::beside;
use loom::sync::Arc;

const BAD: Sample = Sample { failed: true, slow: false };
const GOOD: Sample = Sample { failed: false, slow: false };

#[test]
fn loom_a_count_window_loses_nothing() {
    loom::model(|| {
        let window = Arc::new(Calls::new(2));
        window.record(0, GOOD);
        let other = beside(&window, move |window| window.record(0, BAD));
        window.record(0, BAD);
        other.join().unwrap();
        assert_eq!(window.snapshot(), Tally { total: 2, failed: 2, slow: 0 });
    });
}

#[test]
fn loom_a_late_outcome_does_not_reach_the_next_generation() {
    loom::model(|| {
        let window = Arc::new(Calls::new(1));
        let late = beside(&window, move |window| window.record(0, BAD));
        window.reset(1);
        window.record(1, GOOD);
        late.join().unwrap();
        assert_eq!(window.snapshot(), Tally { total: 1, failed: 0, slow: 0 });
        // The slot is readable: the next lap does not wait for the late writer forever.
        window.record(1, BAD);
        assert_eq!(window.snapshot(), Tally { total: 1, failed: 1, slow: 0 });
    });
}

#[test]
fn loom_a_slice_is_cleared_once() {
    loom::model(|| {
        let window = Arc::new(TimeWindow::new(Duration::from_nanos(SLICES)));
        window.record(0, BAD, 0);
        let other = beside(&window, move |window| window.record(0, BAD, SLICES));
        window.record(0, BAD, SLICES);
        other.join().unwrap();
        assert_eq!(window.tally(0, SLICES).failed, 2);
    });
}

#[test]
fn loom_a_streak_counts_every_failure() {
    loom::model(|| {
        let streak = Arc::new(Failures::new());
        let other = beside(&streak, move |streak| streak.record(0, true));
        streak.record(0, true);
        other.join().unwrap();
        assert_eq!(streak.snapshot().failed, 2);
    });
}
