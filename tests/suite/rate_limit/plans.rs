//! A plan per key: plans without rules, and numbers per plan.

use buttress::rate_limit::{Config, KeyedRateLimitLayer};
use buttress::telemetry::Sampler;

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

#[derive(Clone, Copy, PartialEq, Debug)]
enum Plan {
    Free,
    Own(u8),
    Unlisted,
}

#[tokio::test(start_paused = true)]
async fn each_plan_has_its_own_numbers() {
    let tokens = |n| Config::new().max_tokens(n).refill(1, ms(1000));
    let plans = [(Plan::Free, tokens(1)), (Plan::Own(7), tokens(3))];
    let plan_of = |key: &u32| match key {
        0..10 => Plan::Free,
        10 => Plan::Own(7),
        _ => Plan::Unlisted,
    };
    for counts in [true, false] {
        let config = tokens(2).name("api").count_calls(counts);
        let key = |key: &u32| *key;
        let limiter = KeyedRateLimitLayer::with_plans(config, 4, key, plans.clone(), plan_of);
        let limiter = limiter.unwrap().handle();
        // Two free keys, one key of an own plan, one without a plan, and one that has no place.
        for (key, calls, wanted) in [(1, 2, 1), (2, 3, 1), (10, 4, 3), (11, 7, 2), (12, 5, 0)] {
            let admitted = (0..calls).filter(|_| limiter.try_acquire(&key, 1).is_ok()).count();
            assert_eq!(admitted, wanted, "key {key}");
        }
        let (free, own) =
            (limiter.stats_of_plan(&Plan::Free), limiter.stats_of_plan(&Plan::Own(7)));
        let (free, own, rest) = (free.unwrap(), own.unwrap(), limiter.stats_of_unlisted());
        assert_eq!((free.refused, own.refused, rest.refused), (3, 1, 5));
        let admitted = [free, own, rest].map(|plan| plan.admitted);
        assert_eq!(admitted, [2, 3, 2].map(|n| counts.then_some(n)));
        let stats = limiter.stats();
        assert_eq!((stats.refused, stats.too_many_keys, stats.unlisted_plan), (9, 5, 12));
        let unknown = limiter.stats_of_plan(&Plan::Own(8)).unwrap_err();
        assert_eq!(unknown.to_string(), "plan: Own(8) is not one of [Free, Own(7)]");

        let sampler = Sampler::new();
        sampler.watch(limiter);
        let reading = sampler.read();
        for (plan, refused, admitted) in
            [("Free", 3.0, 2.0), ("Own(7)", 1.0, 3.0), ("unlisted", 5.0, 2.0)]
        {
            let value = |name| reading.value(name, &[("layer", "api"), ("plan", plan)]);
            assert_eq!(value("buttress.rate_limit.plan.refused"), Some(refused), "{plan}");
            let wanted = counts.then_some(admitted);
            assert_eq!(value("buttress.rate_limit.plan.admitted"), wanted, "{plan}");
        }
    }
}

#[test]
fn the_rate_of_each_plan_is_a_gauge_that_follows_a_change() {
    let rules = |size, tokens, period| Config::new().max_tokens(size).refill(tokens, ms(period));
    let (key, plans) = (|key: &u32| *key, [("free", rules(5, 1, 2000))]);
    let layer = KeyedRateLimitLayer::with_plans(rules(7, 3, 1000), 9, key, plans, |_| "free");
    let limiter = layer.unwrap().handle();
    let sampler = Sampler::new();
    sampler.watch(limiter.clone());
    let seen = |plan| {
        let (reading, label) = (sampler.read(), [("plan", plan)]);
        let value = |name| reading.value(name, &label).unwrap();
        let rate = value("buttress.rate_limit.plan.refill_rate");
        (value("buttress.rate_limit.plan.tokens.limit"), rate)
    };
    assert_eq!((seen("free"), seen("unlisted")), ((5.0, 0.5), (7.0, 3.0)));
    limiter.reconfigure_plan(&"free", &rules(50, 50, 1000)).unwrap();
    assert_eq!((seen("free"), seen("unlisted")), ((50.0, 50.0), (7.0, 3.0)));
    limiter.reconfigure_unlisted(&rules(1, 1, 100)).unwrap();
    assert_eq!((seen("free"), seen("unlisted")), ((50.0, 50.0), (1.0, 10.0)));
}

#[test]
fn the_label_of_a_plan_that_is_a_text_has_no_quotes() {
    let (key, plans) = (|key: &u32| *key, [("free", Config::new())]);
    let limiter = KeyedRateLimitLayer::with_plans(Config::new(), 9, key, plans, |_| "free");
    let sampler = Sampler::new();
    sampler.watch(limiter.unwrap().handle());
    let label = [("layer", "rate_limit"), ("plan", "free")];
    assert_eq!(sampler.read().value("buttress.rate_limit.plan.refused", &label), Some(0.0));
}
