use std::time::Duration;

use proptest::prelude::*;

use super::super::Short;
use super::*;
use crate::rate_limit::Config;

const SECOND: u64 = 1_000_000_000;

/// Takes `cost` and drops the receipt.
fn take(bucket: &Bucket, cost: u32, now: u64) -> Result<(), Short> {
    bucket.try_take(cost, now).map(|_| ())
}

fn bucket(max_tokens: u32, refill: u32, period: u64) -> Bucket {
    Bucket::new(plan(max_tokens, refill, period))
}

fn plan(max_tokens: u32, refill: u32, period: u64) -> Plan {
    let config = Config::new().max_tokens(max_tokens).refill(refill, Duration::from_nanos(period));
    config.check().unwrap();
    Plan::new(&config)
}

#[test]
fn a_token_comes_back_at_the_exact_nanosecond() {
    let bucket = bucket(10, 10, SECOND);
    (0..10).for_each(|_| take(&bucket, 1, 0).unwrap());
    let wait = SECOND / 10;
    assert_eq!(take(&bucket, 1, 0), Err(Short::For(wait)));
    assert_eq!(take(&bucket, 1, wait - 1), Err(Short::For(1)));
    assert_eq!(take(&bucket, 1, wait), Ok(()));
    assert_eq!(take(&bucket, 1, wait), Err(Short::For(wait)));
}

#[test]
fn thirds_of_a_second_come_back_as_three_in_a_whole_one() {
    // A rate rounded to whole nanoseconds per token gives two here.
    let bucket = bucket(3, 3, SECOND);
    assert_eq!(take(&bucket, 3, 0), Ok(()));
    assert_eq!(bucket.available(SECOND - 1), 2);
    assert_eq!(bucket.available(SECOND), 3);
    // A full bucket gives all its tokens, also at a time that is not a multiple of a third.
    assert_eq!(take(&bucket, 3, 2 * SECOND + 1), Ok(()));
}

#[test]
fn a_cost_beyond_the_bucket_never_comes() {
    let bucket = bucket(5, 1, SECOND);
    assert_eq!(take(&bucket, 6, 0), Err(Short::Never));
    assert_eq!(take(&bucket, u32::MAX, 0), Err(Short::Never));
    assert_eq!(take(&bucket, 0, 0), Ok(()));
    assert_eq!(bucket.available(0), 5);
}

#[test]
fn a_refund_is_never_more_than_was_taken_and_still_owed() {
    let bucket = bucket(5, 5, SECOND);
    let receipt = bucket.try_take(2, 0).unwrap();
    bucket.refund(2, receipt, 0);
    assert_eq!(bucket.available(0), 5);
    assert_eq!(take(&bucket, 5, 0), Ok(()));
    assert_eq!(bucket.available(0), 0);
}

#[test]
fn what_time_has_brought_back_is_not_refunded_again() {
    // Regression: ten reservations of one token each, dropped together long after the bucket had
    // refilled, admitted eleven tokens together.
    let bucket = bucket(1, 10, SECOND);
    let tenth = SECOND / 10;
    let receipts: Vec<_> = (0..10).map(|n| bucket.try_take(1, n * tenth).unwrap()).collect();
    receipts.into_iter().for_each(|receipt| bucket.refund(1, receipt, 9 * tenth));
    assert_eq!(take(&bucket, 1, 9 * tenth), Ok(()), "the last one was still owed");
    assert_eq!(take(&bucket, 1, 9 * tenth), Err(Short::For(tenth)));
}

#[test]
fn a_clock_that_goes_back_neither_panics_nor_leaps() {
    let bucket = bucket(2, 1, SECOND);
    take(&bucket, 2, 1000 * SECOND).unwrap();
    assert_eq!(bucket.available(0), 0);
    assert!(matches!(take(&bucket, 1, 0), Err(Short::For(_))));
    assert_eq!(take(&bucket, 1, 1001 * SECOND), Ok(()));
}

#[test]
fn a_change_keeps_the_level() {
    let bucket = bucket(10, 10, SECOND);
    take(&bucket, 4, 0).unwrap();
    bucket.apply(plan(100, 7, 3 * SECOND), 0);
    assert_eq!(bucket.available(0), 6);
    assert_eq!(bucket.available(3 * SECOND), 13);
    bucket.apply(plan(2, 1, SECOND), 3 * SECOND);
    assert_eq!(bucket.available(3 * SECOND), 2, "a smaller bucket holds no more than it can");
}

#[test]
fn extreme_rates_fit() {
    let day = 24 * 3600 * SECOND;
    let slow = bucket(u32::MAX, 1, 365 * day);
    take(&slow, u32::MAX, 0).unwrap();
    assert_eq!(slow.available(365 * day - 1), 0);
    assert_eq!(slow.available(365 * day), 1);
    let fast = bucket(1, 1_000_000_000, SECOND);
    take(&fast, 1, 5).unwrap();
    assert_eq!(take(&fast, 1, 5), Err(Short::For(1)));
    assert_eq!(take(&fast, 1, 6), Ok(()));
}

/// Rates from one per day to ten million per second, also rates whose interval is not a whole
/// nanosecond.
fn rates() -> impl Strategy<Value = (u32, u64)> {
    let day = 24 * 3600 * SECOND;
    prop_oneof![
        (1u32..20).prop_map(move |n| (n, day)),
        (1u32..1000).prop_map(|n| (n, SECOND)),
        (1u32..=10_000_000).prop_map(|n| (n, SECOND)),
        (1u32..50, 1u64..SECOND).prop_map(|(n, p)| (n, p.max(n.into()))),
    ]
}

proptest! {
    /// Takes whenever it can. No time span between two admissions admits more than burst + rate x
    /// time. A caller that always wants more gets at most one token less.
    #[test]
    fn never_more_and_at_most_one_less_than_the_rate(
        (tokens, period) in rates(),
        burst in 1u32..20,
        steps in prop::collection::vec((0u32..2000, 1u32..4), 1..60),
    ) {
        let bucket = bucket(burst, tokens, period);
        let interval = (period / u64::from(tokens)).max(1);
        let mut now = 0u64;
        let mut admitted: Vec<(u64, u64)> = Vec::new();
        for (pause, cost) in steps {
            // Pauses from none to two intervals, so that the bucket is sometimes drained and
            // sometimes full.
            now += u64::from(pause) * interval / 1000;
            if take(&bucket, cost, now).is_ok() {
                admitted.push((now, cost.into()));
            }
        }
        for (i, &(from, _)) in admitted.iter().enumerate() {
            let mut sum = 0u128;
            for &(to, cost) in &admitted[i..] {
                sum += u128::from(cost);
                // sum <= burst + tokens * (to - from) / period, without dividing
                let allowed = u128::from(burst) * u128::from(period)
                    + u128::from(tokens) * u128::from(to - from);
                prop_assert!(sum * u128::from(period) <= allowed, "{sum} in {} ns", to - from);
            }
        }
    }

    #[test]
    fn a_greedy_caller_gets_its_rate_over_any_horizon(
        (tokens, period) in rates(),
        burst in 1u32..20,
        idle in 0u64..(10 * 365 * 24 * 3600 * SECOND),
        rounds in 1u64..200,
    ) {
        let bucket = bucket(burst, tokens, period);
        let start = idle;
        let mut now = start;
        let mut admitted = 0u128;
        for _ in 0..rounds {
            match take(&bucket, 1, now) {
                Ok(()) => admitted += 1,
                Err(Short::For(wait)) => {
                    prop_assert!(wait > 0);
                    prop_assert!(bucket.peek(1, now + wait - 1).is_err(), "not a nanosecond early");
                    now += wait;
                }
                Err(other) => prop_assert!(false, "{:?}", other),
            }
        }
        let earned = u128::from(burst) * u128::from(period) + u128::from(tokens) * u128::from(now - start);
        // Tokens that are still in the bucket were earned but not taken.
        let had = admitted + u128::from(bucket.available(now)) + 1;
        prop_assert!(had * u128::from(period) >= earned, "{had} of {earned}");
    }

    /// The fast path of a call while no call waits, also at a rate that is not even, and after
    /// years.
    #[test]
    fn spending_quickly_is_taking(
        (tokens, period) in rates(),
        burst in 1u32..20,
        start in prop_oneof![Just(0), 0u64..(10 * 365 * 24 * 3600 * SECOND)],
        steps in prop::collection::vec((0u32..2000, 0u32..22), 1..60),
    ) {
        let (quick, plain) = (bucket(burst, tokens, period), bucket(burst, tokens, period));
        let interval = (period / u64::from(tokens)).max(1);
        let mut now = start;
        for (pause, cost) in steps {
            now += u64::from(pause) * interval / 1000;
            prop_assert_eq!(quick.spend(cost, now), take(&plain, cost, now));
            let words = [&quick, &plain].map(|bucket| bucket.word.load(Ordering::Relaxed));
            prop_assert_eq!(words[0], words[1]);
        }
    }

    #[test]
    fn looking_agrees_with_taking(
        (tokens, period) in rates(),
        burst in 1u32..5,
        pauses in prop::collection::vec(0u32..3000, 1..60),
    ) {
        let bucket = bucket(burst, tokens, period);
        let interval = (period / u64::from(tokens)).max(1);
        let mut now = 0u64;
        for pause in pauses {
            now += u64::from(pause) * interval / 1000;
            let seen = bucket.peek(1, now);
            let sure = bucket.surely_has_one();
            let available = bucket.available(now);
            let taken = take(&bucket, 1, now);
            prop_assert_eq!(seen, taken);
            prop_assert_eq!(available > 0, taken.is_ok());
            prop_assert!(!sure || taken.is_ok());
        }
    }
}

#[test]
fn what_came_since_the_last_look_is_due_to_the_waiters_and_does_not_overflow() {
    let bucket = bucket(1, 10_000, SECOND);
    take(&bucket, 1, 0).unwrap();
    let tick = SECOND / 1000;
    let taken = (0..20).filter(|_| bucket.take_due(1, 0, tick).is_ok()).count();
    assert_eq!(taken, 10, "ten came in a millisecond");
    assert_eq!(bucket.take_due(1, tick, tick), Err(Short::For(tick / 10)));
    // A newcomer finds one token, however long no call came.
    take(&bucket, 1, 5 * tick).unwrap();
    assert!(take(&bucket, 1, 5 * tick).is_err());
}

#[test]
fn what_overflowed_before_anybody_waited_is_lost() {
    let bucket = bucket(2, 1000, SECOND);
    take(&bucket, 2, 0).unwrap();
    let (since, until) = (SECOND, SECOND + SECOND / 1000);
    let taken = (0..9).filter(|_| bucket.take_due(1, since, until).is_ok()).count();
    assert_eq!(taken, 3, "a full bucket, and the one that came since");
    assert_eq!(bucket.take_due(3, since, until), Err(Short::Never));
}

proptest! {
    /// A late check gives each waiter the tokens that a check at the exact moment would give.
    #[test]
    fn late_looks_and_looks_in_time_are_the_same(
        size in 1u32..5,
        rate in 1u32..5000,
        costs in prop::collection::vec(1u32..5, 1..30),
        pause in 1u64..SECOND,
    ) {
        let (late, exact) = (bucket(size, rate, SECOND), bucket(size, rate, SECOND));
        take(&late, size, 0).unwrap();
        take(&exact, size, 0).unwrap();
        let mut now = 0;
        for (cost, slack) in costs.into_iter().filter(|cost| *cost <= size).zip(1u64..) {
            let late = late.take_due(cost, 0, pause);
            // A full bucket loses the fraction of a nanosecond at each check.
            let due = now + exact.wait_for(0, cost, now).unwrap();
            match late {
                Ok(_) => prop_assert!(due <= pause + slack),
                Err(Short::For(wait)) => {
                    prop_assert!(due >= pause + wait && due <= pause + wait + slack);
                    break;
                }
                Err(other) => prop_assert!(false, "{:?}", other),
            }
            take(&exact, cost, due).unwrap();
            now = due;
        }
    }
}
