//! A plan per key: plans without rules.

use buttress::rate_limit::{Config, KeyedRateLimitLayer};

use crate::support::lines::Lines;
use crate::support::ms;

#[tokio::test(start_paused = true)]
async fn a_plan_without_rules_is_one_warning_and_the_first_eight_are_logged() {
    let lines = Lines::capture();
    let plan = |tokens| Config::new().max_tokens(tokens).refill(1, ms(1000));
    let (key, plans) = (|key: &u32| *key, [("free", plan(1)), ("pro", plan(9))]);
    let plan_of = |key: &u32| match key {
        0 => "free",
        1 | 2 => "Pro",
        _ => "x".repeat(*key as usize).leak(),
    };
    let config = plan(3).name("api");
    let limiter = KeyedRateLimitLayer::with_plans(config, 100, key, plans, plan_of);
    let limiter = limiter.unwrap().handle();
    for key in [0, 1, 2, 1] {
        let _ = limiter.try_acquire(&key, 1);
    }
    let logged = lines.take();
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert!(logged[0].1.contains("a plan has no rules"), "{logged:?}");
    assert!(logged[0].1.contains("Pro") && logged[0].1.contains("api"), "{logged:?}");
    for key in (3..40).chain(3..40) {
        limiter.try_acquire(&key, 1).unwrap();
    }
    assert_eq!(lines.levels(), (0, 7, 0));
    assert_eq!(limiter.stats().unlisted_plan, 3 + 2 * 37);
}
