//! Every handle returns the rules in force, before and after a change.

use std::fmt::Debug;
use std::time::Duration;

use buttress::{bulkhead, circuit_breaker, rate_limit, retry, time_limit};

const SECOND: Duration = Duration::from_secs(1);

/// The text of a configuration has all of its fields.
fn same(read: impl Debug, expected: impl Debug) {
    assert_eq!(format!("{read:?}"), format!("{expected:?}"));
}

/// Checks a handle of `$first` that is changed to `$second`: rules are replaced, the name stays.
macro_rules! read_back {
    ($handle:expr, $first:expr, $second:expr) => {
        let handle = $handle;
        same(handle.config(), $first);
        handle.reconfigure(&$second.name("other")).unwrap();
        same(handle.config(), $second.name("db"));
        // The rules that were read can be applied again.
        handle.reconfigure(&handle.config()).unwrap();
        same(handle.config(), $second.name("db"));
    };
}

#[test]
fn a_bulkhead_returns_its_rules() {
    use bulkhead::{BulkheadLayer, Config, KeyedBulkheadLayer};
    let first = || Config::new().name("db").max_concurrent(3).queue(7).max_wait(SECOND);
    let second = || Config::new().max_concurrent(9).queue(0).claim_within(3 * SECOND);
    read_back!(BulkheadLayer::new(first()).unwrap().handle(), first(), second());
    let keyed = KeyedBulkheadLayer::new(first(), 10, |key: &u32| *key).unwrap().handle();
    drop(keyed.try_acquire(&1).unwrap());
    read_back!(keyed.clone(), first(), second());
    same(keyed.get(&1).unwrap().config(), second().name("db"));
    let handle = BulkheadLayer::new(first()).unwrap().handle();
    handle.resize(5).unwrap();
    same(handle.config(), first().max_concurrent(5));
}

#[test]
fn a_rate_limiter_returns_its_rules() {
    use rate_limit::{Config, KeyedRateLimitLayer, RateLimitLayer};
    let first =
        || Config::new().name("db").max_tokens(3).refill(2, SECOND).queue(7).max_wait(SECOND);
    let second = || Config::new().max_tokens(9).refill(5, 2 * SECOND).claim_within(3 * SECOND);
    read_back!(RateLimitLayer::new(first()).unwrap().handle(), first(), second());
    let windows = || Config::new().name("db").sliding_window(3, SECOND);
    let others = || Config::new().sliding_window(5, 2 * SECOND);
    read_back!(RateLimitLayer::new(windows()).unwrap().handle(), windows(), others());
    // A keyed limiter ignores queue and waits, and returns them as they were set.
    let second = || Config::new().max_tokens(9).refill(5, 2 * SECOND).queue(7).max_wait(SECOND);
    let keyed = KeyedRateLimitLayer::new(first(), 10, |key: &u32| *key).unwrap();
    read_back!(keyed.handle(), first(), second());
}

#[test]
fn a_keyed_rate_limiter_returns_the_rules_of_each_plan() {
    use rate_limit::{Config, KeyedRateLimitLayer};
    let per_second = |n| Config::new().name("db").max_tokens(n).refill(n, SECOND);
    let plans = [("free", per_second(2)), ("pro", per_second(20))];
    let plan_of = |key: &u32| if *key < 100 { "pro" } else { "free" };
    let key = |key: &u32| *key;
    let layer = KeyedRateLimitLayer::with_plans(per_second(1), 10, key, plans, plan_of).unwrap();
    let handle = layer.handle();
    same(handle.config_of_plan(&"free").unwrap(), per_second(2));
    same(handle.config_of_plan(&"pro").unwrap(), per_second(20));
    same(handle.config_of_unlisted(), per_second(1));
    assert_eq!(handle.config_of_plan(&"gold").unwrap_err().field(), "plan");
    handle.reconfigure_plan(&"pro", &per_second(30)).unwrap();
    handle.reconfigure_unlisted(&per_second(3)).unwrap();
    same(handle.config_of_plan(&"free").unwrap(), per_second(2));
    same(handle.config_of_plan(&"pro").unwrap(), per_second(30));
    same(handle.config_of_unlisted(), per_second(3));
}

#[test]
fn a_circuit_breaker_returns_its_rules() {
    use circuit_breaker::{CircuitBreakerLayer, Config, KeyedCircuitBreakerLayer};
    let first = || Config::new().name("db").failure_rate(0.1).count_window(50).min_calls(5);
    let second =
        || first().failure_rate(0.7).open_for(SECOND).growing(2.0, 9 * SECOND).probe_lease(SECOND);
    read_back!(CircuitBreakerLayer::new(first()).unwrap().handle(), first(), second());
    let keyed = KeyedCircuitBreakerLayer::new(first(), 10, |key: &u32| *key).unwrap().handle();
    keyed.try_acquire(&1).unwrap().success();
    read_back!(keyed.clone(), first(), second());
    same(keyed.get(&1).unwrap().config(), second().name("db"));
    let other_window = first().count_window(60);
    assert_eq!(keyed.reconfigure(&other_window).unwrap_err().field(), "count-window");
    same(keyed.config(), second().name("db"));
}

#[test]
fn a_retry_returns_its_rules() {
    use retry::{Backoff, Config, RetryLayer};
    let rng = || buttress::Rng::seeded(1);
    let first = || Config::new().name("db").attempts(7).total_time(SECOND).rng(rng());
    let second = || Config::new().attempts(2).backoff(Backoff::none()).max_hint(SECOND).rng(rng());
    read_back!(RetryLayer::new(first()).unwrap().handle(), first(), second());
}

#[test]
fn a_time_limit_returns_its_rules() {
    use time_limit::{Config, TimeLimitLayer};
    let (first, second) = (|| Config::new(SECOND).name("db"), || Config::new(2 * SECOND));
    read_back!(TimeLimitLayer::new(first()).unwrap().handle(), first(), second());
}
