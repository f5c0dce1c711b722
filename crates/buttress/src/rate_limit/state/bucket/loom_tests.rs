use super::*;
use crate::rate_limit::Config;
use crate::sync::beside;
use loom::sync::Arc;
use std::time::Duration;

fn plan(max_tokens: u32, refill: u32) -> Plan {
    let config = Config::new().max_tokens(max_tokens);
    Plan::new(&config.refill(refill, Duration::from_secs(1)))
}

#[test]
fn loom_two_takers_share_the_tokens() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new(plan(1, 1)));
        let other = beside(&bucket, move |bucket| bucket.try_take(1, 0).is_ok());
        let mine = bucket.try_take(1, 0).is_ok();
        assert!(mine ^ other.join().unwrap(), "exactly one got the only token");
    });
}

#[test]
fn loom_who_spends_quickly_does_not_pass_a_waiter() {
    loom::model(|| {
        let bucket = Arc::new(Bucket::new(plan(1, 1)));
        let waiter = beside(&bucket, move |bucket| {
            bucket.set_waiting(true);
            bucket.take_due(1, 0, 0).is_ok()
        });
        // The newcomer passes before the waiter has registered, or not at all.
        let mine = bucket.spend(1, 0).is_ok();
        assert!(mine ^ waiter.join().unwrap(), "exactly one got the only token");
        assert_eq!(bucket.spend(1, 0), Err(Short::Behind));
    });
}

#[test]
fn loom_nobody_passes_a_waiter_during_a_change_of_plan() {
    // Regression: the bit of an odd version cancelled the bit of the waiters. A newcomer then
    // passed them and cleared the bit.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let bucket = Arc::new(Bucket::new(plan(4, 1)));
        bucket.set_waiting(true);
        let newcomer = beside(&bucket, move |bucket| bucket.spend(1, 0));
        bucket.apply(plan(4, 1000), 0);
        assert_eq!(newcomer.join().unwrap(), Err(Short::Behind));
        assert_eq!(bucket.available(0), 4);
    });
}

#[test]
fn loom_a_take_is_never_mixed_with_a_change_of_plan() {
    take_against_change(|bucket| bucket.try_take(1, 0).map(drop));
}

#[test]
fn loom_a_quick_take_is_never_mixed_with_a_change_of_plan() {
    take_against_change(|bucket| bucket.spend(1, 0));
}

fn take_against_change(take: fn(&Bucket) -> Result<(), Short>) {
    // Two readers of a sequence lock and two loops: without a bound the model takes minutes. Three
    // preemptions suffice for every known bug of this kind.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let bucket = Arc::new(Bucket::new(plan(4, 1)));
        let taker = beside(&bucket, move |bucket| take(&bucket).unwrap());
        // The units of the two plans differ by a factor of a thousand: a mixture would empty the
        // bucket or leave it full.
        bucket.apply(plan(4, 1000), 0);
        taker.join().unwrap();
        assert_eq!(bucket.available(0), 3);
    });
}
