//! A limit, a bulkhead or a circuit per key, with at most the configured number of keys.

mod room;

use buttress::bulkhead::{self, KeyedBulkheadLayer};
use buttress::circuit_breaker::{self, KeyedCircuitBreakerLayer};
use buttress::rate_limit::{self, KeyedRateLimitLayer};
use buttress::{CircuitState, ErrorKind};
use tower::Layer;

use crate::support::{Ask, Scripted, Step, begin, behind, is_pending, ms, now, panic_of};

type Key = fn(&Ask) -> u32;

fn number(request: &Ask) -> u32 {
    request.0
}

/// Two tokens per key, and one more every 100 ms.
fn limiter(keys: usize) -> KeyedRateLimitLayer<u32, Key> {
    let config = rate_limit::Config::new().max_tokens(2).refill(1, ms(100));
    KeyedRateLimitLayer::new(config, keys, number as Key).unwrap()
}

fn wall(keys: usize) -> KeyedBulkheadLayer<u32, Key> {
    let config = bulkhead::Config::new().max_concurrent(1);
    KeyedBulkheadLayer::new(config, keys, number as Key).unwrap()
}

/// Opens at the first failure, for 100 ms.
fn breaker(keys: usize) -> KeyedCircuitBreakerLayer<u32, Key> {
    let config = circuit_breaker::Config::new().consecutive_failures(1).open_for(ms(100));
    KeyedCircuitBreakerLayer::new(config, keys, number as Key).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_key_has_tokens_of_its_own() {
    let layer = limiter(10);
    let (inner, log) = Scripted::new();
    let mut services = [layer.layer(inner.clone()), layer.clone().layer(inner)];
    for key in [1, 2] {
        for service in &mut services {
            assert!(now(begin(service, Ask(key))).is_ok());
        }
        let error = now(begin(&mut services[0], Ask(key))).unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::RateLimited));
        assert_eq!(error.refusal().retry_after(), Some(ms(100)));
    }
    tokio::time::advance(ms(99)).await;
    assert_eq!(layer.handle().available(&1), Some(0));
    tokio::time::advance(ms(1)).await;
    assert_eq!(layer.handle().available(&1), Some(1));
    assert_eq!(layer.handle().available(&3), None, "not held: would start full");
    let stats = layer.handle().stats();
    assert_eq!((stats.keys, stats.refused, log.calls()), (2, 2, 4));
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_not_full_is_not_forgotten() {
    let handle = limiter(2).handle();
    handle.try_acquire(&1, 2).unwrap();
    handle.try_acquire(&2, 1).unwrap();
    let error = handle.try_acquire(&3, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyKeys);
    assert!(error.never_reached_service());
    assert_eq!((handle.stats().keys, handle.stats().too_many_keys), (2, 1));
    // A flood of new keys must not give key 1 its tokens back.
    for key in 10..1000 {
        assert!(handle.try_acquire(&key, 1).is_err());
    }
    assert_eq!(handle.available(&1), Some(0));
    tokio::time::advance(ms(99)).await;
    assert!(handle.try_acquire(&3, 1).is_err());
    tokio::time::advance(ms(1)).await;
    handle.try_acquire(&3, 1).unwrap();
    assert_eq!((handle.available(&1), handle.available(&2)), (Some(1), None), "2 was full again");
    assert_eq!(handle.stats().keys, 2);
}

#[tokio::test(start_paused = true)]
async fn a_live_change_reaches_every_key_and_keeps_its_level() {
    let handle = limiter(10).handle();
    handle.try_acquire(&1, 2).unwrap();
    handle.try_acquire(&2, 1).unwrap();
    handle.reconfigure(&rate_limit::Config::new().max_tokens(5).refill(1, ms(10))).unwrap();
    assert_eq!((handle.available(&1), handle.available(&2)), (Some(0), Some(1)));
    assert!(handle.try_acquire(&3, 5).is_ok(), "a new key has the new size");
    tokio::time::advance(ms(10)).await;
    assert_eq!((handle.available(&1), handle.available(&2)), (Some(1), Some(2)));
    let windows = rate_limit::Config::new().fixed_window(1, ms(10));
    assert_eq!(handle.reconfigure(&windows).unwrap_err().field(), "policy");
}

#[tokio::test(start_paused = true)]
async fn each_key_has_permits_of_its_own() {
    let layer = wall(10);
    let (mut service, log) = behind(&layer, []);
    log.always(Step::Held);
    let mut running = [begin(&mut service, Ask(1)), begin(&mut service, Ask(2))];
    assert!(running.iter_mut().all(is_pending));
    let error = now(begin(&mut service, Ask(1))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::BulkheadFull));
    drop(running);
    let mut again = begin(&mut service, Ask(1));
    assert!(is_pending(&mut again));
    log.open();
    assert!(now(again).is_ok());
    assert_eq!(layer.handle().get(&1).unwrap().stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_the_permit_of_its_key_back() {
    for step in [Step::PanicInCall, Step::PanicAtPoll(1), Step::PanicAtPoll(2)] {
        let layer = wall(10);
        let (mut service, _) = behind(&layer, [step]);
        panic_of(|| {
            let mut response = begin(&mut service, Ask(1));
            while is_pending(&mut response) {}
        });
        assert_eq!(layer.handle().get(&1).unwrap().stats().active, 0, "{step:?}");
        assert!(now(begin(&mut service, Ask(1))).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_with_a_call_running_is_not_forgotten() {
    let handle = wall(1).handle();
    let running = handle.try_acquire(&1).unwrap();
    for key in 2..100 {
        assert_eq!(handle.try_acquire(&key).unwrap_err().kind(), ErrorKind::TooManyKeys);
    }
    assert_eq!(handle.try_acquire(&1).unwrap_err().kind(), ErrorKind::BulkheadFull);
    drop(running);
    let _other = handle.try_acquire(&2).unwrap();
    assert!(handle.get(&1).is_none(), "its place was taken");
    assert_eq!(handle.stats().keys, 1);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_limit_reaches_keys_that_run() {
    let config = bulkhead::Config::new().max_concurrent(3);
    let handle = KeyedBulkheadLayer::new(config, 10, number as Key).unwrap().handle();
    let mut running: Vec<_> = (0..3).map(|_| handle.try_acquire(&1).unwrap()).collect();
    handle.reconfigure(&bulkhead::Config::new().max_concurrent(1)).unwrap();
    running.pop();
    running.pop();
    assert!(handle.try_acquire(&1).is_err(), "one runs");
    let _new = handle.try_acquire(&2).unwrap();
    assert!(handle.try_acquire(&2).is_err(), "a new key has the new limit");
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_circuit_of_its_own() {
    let layer = breaker(10);
    let (mut service, log) = behind(&layer, [Step::Fail]);
    assert!(now(begin(&mut service, Ask(1))).is_err());
    let error = now(begin(&mut service, Ask(1))).unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::CircuitOpen));
    assert_eq!(error.refusal().retry_after(), Some(ms(100)));
    assert!(now(begin(&mut service, Ask(2))).is_ok());
    tokio::time::advance(ms(99)).await;
    assert!(now(begin(&mut service, Ask(1))).is_err());
    tokio::time::advance(ms(1)).await;
    assert!(now(begin(&mut service, Ask(1))).is_ok(), "the probe");
    let stats = layer.handle().stats();
    assert_eq!((stats.opened, stats.refused, log.calls()), (1, 2, 3));
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_not_forgotten() {
    let handle = breaker(2).handle();
    handle.try_acquire(&1).unwrap().failure();
    // Two places, one of them with an open circuit: new keys share the other.
    for key in 2..100 {
        handle.try_acquire(&key).unwrap().success();
    }
    assert_eq!(handle.stats().keys, 2);
    assert_eq!(handle.try_acquire(&1).unwrap_err().kind(), ErrorKind::CircuitOpen);
    assert_eq!(handle.get(&1).unwrap().state(), CircuitState::Open);
    handle.try_acquire(&99).unwrap().failure();
    assert_eq!(handle.try_acquire(&100).unwrap_err().kind(), ErrorKind::TooManyKeys);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_with_a_call_running_is_not_forgotten() {
    let handle = breaker(1).handle();
    let running = handle.try_acquire(&1).unwrap();
    assert_eq!(handle.try_acquire(&2).unwrap_err().kind(), ErrorKind::TooManyKeys);
    running.failure();
    assert_eq!(handle.get(&1).unwrap().state(), CircuitState::Open, "its result was counted");
}

#[tokio::test(start_paused = true)]
async fn a_circuit_an_operator_forced_is_not_forgotten() {
    let handle = breaker(1).handle();
    handle.try_acquire(&1).unwrap().success();
    handle.get(&1).unwrap().force_open();
    assert_eq!(handle.try_acquire(&2).unwrap_err().kind(), ErrorKind::TooManyKeys);
    handle.get(&1).unwrap().reset();
    assert!(handle.try_acquire(&2).is_ok());
}

#[test]
fn a_cap_of_no_keys_is_refused() {
    let config = rate_limit::Config::new();
    let error = KeyedRateLimitLayer::new(config, 0, number as Key).unwrap_err();
    assert_eq!(error.field(), "max-keys");
    let windows = rate_limit::Config::new().sliding_window(1, ms(1));
    let error = KeyedRateLimitLayer::new(windows, 1, number as Key).unwrap_err();
    assert_eq!(error.field(), "policy");
}
