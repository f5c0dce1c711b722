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
    // Regression: 30 retries at 0.999 s and 30 more at 10 s were 60 within 9 s.
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
fn a_look_at_the_balance_changes_nothing() {
    let start = origin();
    let budgets = [(); 2].map(|()| Budget::new(0.2, 1).unwrap());
    let [watched, alone] = &budgets;
    budgets.iter().for_each(|budget| budget.open(start));
    let mut now = start;
    for step in 0..200u64 {
        now += Duration::from_millis(step * 37 % 911);
        (0..step % 7).for_each(|_| budgets.iter().for_each(Budget::deposit));
        // Between two withdrawals, while calls wait to be entered.
        let before = watched.balance(now);
        assert_eq!(watched.balance(now), before);
        if step % 5 == 0 {
            assert_eq!(watched.try_withdraw(now), alone.try_withdraw(now), "step {step}");
        }
    }
    let left = alone.balance(now);
    assert_eq!((0..100).filter(|_| watched.try_withdraw(now)).count() as u64, left);
    assert_eq!((watched.balance(now), alone.balance(now)), (0, left));
}

#[test]
fn bad_numbers_are_named() {
    assert_eq!(Budget::new(-0.1, 0).unwrap_err().field(), "share");
    assert_eq!(Budget::new(f64::NAN, 0).unwrap_err().field(), "share");
    let error = Budget::with_window(0.1, 0, Duration::ZERO).unwrap_err();
    assert_eq!(error.field(), "window");
}

/// Regression: with less than one retry in the window a budget never granted any.
#[test]
fn a_window_too_short_for_its_floor_is_refused_and_the_shortest_grants_one() {
    let nanos = Duration::from_nanos;
    for (floor, shortest) in
        [(1, 1_000_000_000), (3, 333_333_334), (7, 142_857_143), (2_000, 500_000)]
    {
        for share in [0.0, 0.5] {
            let error = Budget::with_window(share, floor, nanos(shortest - 1)).unwrap_err();
            assert_eq!(error.field(), "window");
            let bound = format!("at least {:?}, 1 second divided by the floor", nanos(shortest));
            assert!(error.to_string().contains(&bound), "{error}");
        }
        let (budget, start) = (Budget::with_window(0.0, floor, nanos(shortest)).unwrap(), origin());
        assert_eq!(budget.balance(start), 1, "a floor of {floor}");
        assert!(budget.try_withdraw(start));
        assert!(!budget.try_withdraw(start + nanos(shortest - 1)), "within the window");
        // The slices of the window are rounded up by less than ten nanoseconds.
        assert!(budget.try_withdraw(start + nanos(shortest + 10)));
    }
    assert!(Budget::with_window(0.1, 0, nanos(1)).is_ok(), "no floor");
    assert!(Budget::with_window(0.0, 2, nanos(500_000_000)).is_ok(), "one retry in half a second");
}

proptest! {
    /// Compares with lists of calls and retries with their times. Both are settled at every step,
    /// so that nothing has to be spread.
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
            // Settles the ledger at this instant before the calls are made, and takes the retries
            // that are left.
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
            prop_assert_eq!(budget.balance(at) > 0, expected);
            prop_assert_eq!(budget.try_withdraw(at), expected);
            (0..deposits).for_each(|_| budget.deposit());
            calls.push((now, deposits));
            for _ in 0..=withdrawals {
                let expected = settle(&mut retries, &calls);
                prop_assert_eq!(budget.try_withdraw(at), expected, "at {}", now);
            }
        }
    }

    /// Over the whole run, the retries never exceed the share of all calls plus the floor for the
    /// touched windows.
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
