use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::*;
use crate::vocabulary::error::ErrorKind;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Plan {
    Free,
    Pro,
    Unlisted,
}

type Handle = KeyedHandle<u32, Plans<u32, Plan>>;

fn per_second(tokens: u32) -> Config {
    Config::new().max_tokens(tokens).refill(tokens, Duration::from_secs(1))
}

fn limiter(max_keys: usize, plan_of: impl Fn(&u32) -> Plan + Send + Sync + 'static) -> Handle {
    let plans = [(Plan::Free, per_second(2)), (Plan::Pro, per_second(20))];
    let key = |request: &u32| *request;
    let layer = KeyedRateLimitLayer::with_plans(per_second(1), max_keys, key, plans, plan_of);
    layer.unwrap().handle()
}

/// Keys from 1000 on are pro.
fn by_number(key: &u32) -> Plan {
    if *key < 1000 { Plan::Free } else { Plan::Pro }
}

fn switchable() -> (Arc<AtomicBool>, Handle) {
    let pro = Arc::new(AtomicBool::new(false));
    let asked = pro.clone();
    let plan_of = move |_: &u32| if asked.load(Ordering::SeqCst) { Plan::Pro } else { Plan::Free };
    (pro, limiter(8, plan_of))
}

async fn advance(ms: u64) {
    tokio::time::advance(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn each_key_has_the_limit_of_its_plan() {
    let limiter = limiter(8, by_number);
    for (key, burst, message) in [
        (1, 2, "rate limiter exhausted (2 per second; retry in 500ms)"),
        (1000, 20, "rate limiter exhausted (20 per second; retry in 50ms)"),
    ] {
        for _ in 0..burst {
            limiter.try_acquire(&key, 1).unwrap();
        }
        assert_eq!(limiter.try_acquire(&key, 1).unwrap_err().to_string(), message);
    }
    advance(50).await;
    assert!(limiter.try_acquire(&1000, 1).is_ok());
    assert!(limiter.try_acquire(&1, 1).is_err());
    advance(450).await;
    assert!(limiter.try_acquire(&1, 1).is_ok());
    // More than the bucket of the plan holds never passes.
    assert_eq!(limiter.try_acquire(&2, 3).unwrap_err().retry_after(), None);
    assert!(limiter.try_acquire(&1001, 3).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_plan_changes_live_for_all_its_keys_and_no_others() {
    // More keys than one shard has.
    let limiter = limiter(4000, by_number);
    for key in 0..2000 {
        limiter.try_acquire(&key, 1).unwrap();
    }
    limiter.reconfigure_plan(&Plan::Free, &per_second(10)).unwrap();
    for key in 0..1000 {
        // The level stays, and the larger bucket fills at its rate.
        assert_eq!(limiter.available(&key), Some(1), "{key}");
        assert_eq!(limiter.limit_of(&key).max_tokens, 10);
        assert_eq!(limiter.limit_of(&(key + 1000)).max_tokens, 20);
        assert_eq!(limiter.available(&(key + 1000)), Some(19));
    }
    advance(100).await;
    assert_eq!(limiter.available(&7), Some(2));
    // A key that is added later.
    let mut later = 0;
    while limiter.try_acquire(&3000, 1).is_ok() {
        later += 1;
    }
    assert_eq!(later, 20);
    limiter.reconfigure_plan(&Plan::Pro, &per_second(5)).unwrap();
    assert_eq!(limiter.available(&1007), Some(5));
    assert_eq!(limiter.limit_of(&9999).available, 5);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_changes_its_plan_keeps_its_level() {
    let (pro, limiter) = switchable();
    limiter.try_acquire(&1, 2).unwrap();
    pro.store(true, Ordering::SeqCst);
    // An upgrade brings no second burst.
    assert_eq!(limiter.available(&1), Some(0));
    let error = limiter.try_acquire(&1, 1).unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(50)));
    advance(500).await;
    assert_eq!(limiter.available(&1), Some(10));
    pro.store(false, Ordering::SeqCst);
    // Of ten tokens a bucket of two holds two.
    assert_eq!(limiter.limit_of(&1).available, 2);
    limiter.try_acquire(&1, 2).unwrap();
    assert!(limiter.try_acquire(&1, 1).is_err());
}

#[tokio::test(start_paused = true)]
async fn the_limit_that_is_shown_after_a_change_of_plan_comes_true() {
    let (pro, limiter) = switchable();
    let shown = |key| {
        let limit = limiter.limit_of(&key);
        (limit.available, limit.max_tokens, limit.full_in.as_millis())
    };
    limiter.try_acquire(&1, 2).unwrap();
    limiter.try_acquire(&2, 2).unwrap();
    pro.store(true, Ordering::SeqCst);
    assert_eq!(shown(1), (0, 20, 1000));
    advance(500).await;
    assert_eq!(shown(1), (10, 20, 500));
    advance(500).await;
    assert_eq!(shown(1), (20, 20, 0));
    // Without a look or a call, the second counts at the rate of the old plan.
    let error = limiter.try_acquire(&2, 3).unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_millis(50)));
    assert_eq!(shown(2), (2, 20, 900));

    limiter.try_acquire(&1, 20).unwrap();
    pro.store(false, Ordering::SeqCst);
    assert_eq!((limiter.available(&1), shown(1)), (Some(0), (0, 2, 1000)));
    advance(500).await;
    assert_eq!(shown(1), (1, 2, 500));
    assert!(limiter.try_acquire(&1, 2).is_err());
}

#[tokio::test(start_paused = true)]
async fn changing_to_and_fro_gains_no_token() {
    let (pro, limiter) = switchable();
    let mut admitted = 0;
    for n in 0..1000 {
        pro.store(n % 2 == 0, Ordering::SeqCst);
        admitted += u32::from(limiter.try_acquire(&1, 1).is_ok());
    }
    // The key began as pro. The second call cut it to two tokens.
    assert_eq!(admitted, 3);
}

#[tokio::test(start_paused = true)]
async fn what_a_key_would_find_is_told_without_a_call() {
    let limiter = limiter(8, by_number);
    let second = Duration::from_secs(1);
    let full = limiter.limit_of(&1000);
    assert_eq!((full.available, full.max_tokens, full.full_in), (20, 20, Duration::ZERO));
    assert_eq!((full.refill_tokens, full.refill_period), (20, second));
    assert_eq!(limiter.available(&1000), None);
    limiter.try_acquire(&1000, 5).unwrap();
    let limit = limiter.limit_of(&1000);
    assert_eq!((limit.available, limit.full_in), (15, Duration::from_millis(250)));
    assert_eq!(limiter.stats().keys, 1);
    let plain = KeyedRateLimitLayer::new(per_second(3), 8, |key: &u32| *key).unwrap().handle();
    plain.try_acquire(&1, 1).unwrap();
    assert_eq!((plain.limit_of(&1).available, plain.limit_of(&1).max_tokens), (2, 3));
    plain.reconfigure(&per_second(1)).unwrap();
    assert_eq!((plain.limit_of(&1).available, plain.limit_of(&2).max_tokens), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_key_without_a_listed_plan_has_the_first_rules() {
    let limiter = limiter(8, |_| Plan::Unlisted);
    assert_eq!(limiter.limit_of(&1).max_tokens, 1);
    limiter.try_acquire(&1, 1).unwrap();
    assert!(limiter.try_acquire(&1, 1).is_err());
    limiter.reconfigure_plan(&Plan::Free, &per_second(7)).unwrap();
    assert_eq!(limiter.limit_of(&1).max_tokens, 1);
    limiter.reconfigure_unlisted(&per_second(4)).unwrap();
    assert_eq!((limiter.limit_of(&1).max_tokens, limiter.available(&1)), (4, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn calls_of_plans_without_rules_are_counted() {
    let limiter = limiter(8, |key| if *key == 1 { Plan::Unlisted } else { Plan::Free });
    limiter.try_acquire(&1, 1).unwrap();
    assert!(limiter.try_acquire(&1, 1).is_err());
    limiter.try_acquire(&2, 1).unwrap();
    let _ = (limiter.limit_of(&1), limiter.available(&1));
    assert_eq!(limiter.stats().unlisted_plan, 2, "refused calls too, and no look at the limit");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_plan_is_refused_and_changes_nothing() {
    let limiter = limiter(8, by_number);
    let error = limiter.reconfigure_plan(&Plan::Unlisted, &per_second(7)).unwrap_err();
    assert_eq!(error.to_string(), "plan: Unlisted is not one of [Free, Pro]");
    let error = limiter.reconfigure_plan(&Plan::Free, &per_second(7).max_tokens(0)).unwrap_err();
    assert_eq!(error.to_string(), "max-tokens: 0 is not at least 1");
    assert_eq!(limiter.limit_of(&1).max_tokens, 2);
    let with = |plans: [(Plan, Config); 2]| {
        let key = |request: &u32| *request;
        KeyedRateLimitLayer::with_plans(Config::new(), 8, key, plans, by_number).map(|_| ())
    };
    let twice = with([(Plan::Pro, per_second(1)), (Plan::Pro, per_second(2))]).unwrap_err();
    assert_eq!(twice.to_string(), "plan: Pro is not listed once");
    let windows = per_second(1).fixed_window(1, Duration::from_secs(1));
    let window = with([(Plan::Free, per_second(1)), (Plan::Pro, windows)]).unwrap_err();
    assert_eq!(window.field(), "policy");
}

#[tokio::test(start_paused = true)]
async fn only_a_bucket_that_is_full_by_its_own_plan_is_forgotten() {
    let limiter = limiter(2, by_number);
    limiter.try_acquire(&1, 1).unwrap();
    limiter.try_acquire(&1000, 1).unwrap();
    assert_eq!(limiter.try_acquire(&2, 1).unwrap_err().kind(), ErrorKind::TooManyKeys);
    // The pro bucket is full again, the free one is not.
    advance(50).await;
    limiter.try_acquire(&2, 1).unwrap();
    assert_eq!((limiter.available(&1000), limiter.available(&1)), (None, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn the_closure_may_ask_the_limiter() {
    let own: Arc<OnceLock<Handle>> = Arc::default();
    let asked = own.clone();
    // Another limiter would do too. This one shows that no lock is held.
    let limiter = limiter(8, move |key| {
        let handle = asked.get();
        let seen = handle.map_or(0, |handle| handle.stats().keys);
        if *key == 1 && seen > 0 { Plan::Pro } else { Plan::Free }
    });
    own.set(limiter.clone()).unwrap();
    assert_eq!(limiter.limit_of(&1).max_tokens, 2);
    limiter.try_acquire(&1, 1).unwrap();
    assert_eq!(limiter.limit_of(&1).max_tokens, 20);
}
