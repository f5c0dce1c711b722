//! Which key a new key replaces, and when it cannot replace any.

use std::hash::Hash;

use buttress::bulkhead::{self, KeyedBulkheadLayer};
use buttress::circuit_breaker::{self, KeyedCircuitBreakerLayer};
use buttress::rate_limit::{self, KeyedRateLimitLayer};
use buttress::{CircuitState, ErrorKind};

use super::{Key, breaker, number};
use crate::support::{Ask, ms, panic_of};

/// Regression: with as many dead hosts as places, no other host ever got a place.
#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_forgotten_as_long_after_its_probe_was_due_as_it_was_open() {
    let handle = breaker(2).handle();
    for key in [1, 2] {
        handle.try_acquire(&key).unwrap().failure();
    }
    // The circuit is open until 100 ms.
    for wait in [0, 99, 1, 99] {
        tokio::time::advance(ms(wait)).await;
        assert_eq!(handle.try_acquire(&3).unwrap_err().kind(), ErrorKind::TooManyKeys);
    }
    tokio::time::advance(ms(1)).await;
    assert!(handle.try_acquire(&3).is_ok());
    let held = [1, 2, 3].map(|key| handle.get(&key).map(|circuit| circuit.state()));
    assert_eq!(held, [None, Some(CircuitState::Open), Some(CircuitState::Closed)]);
    assert_eq!((handle.stats().keys, handle.stats().too_many_keys), (2, 4));
}

/// Checks that a new key has no room until `wait` milliseconds from now.
async fn assert_room_after(handle: &circuit_breaker::KeyedHandle<u32>, wait: u64) {
    for wait in [0, wait - 1] {
        tokio::time::advance(ms(wait)).await;
        assert_eq!(handle.try_acquire(&2).unwrap_err().kind(), ErrorKind::TooManyKeys);
    }
    tokio::time::advance(ms(1)).await;
    assert!(handle.try_acquire(&2).is_ok());
}

/// A circuit with a new probe is not idle.
#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_again_is_kept_for_as_long_again() {
    let handle = breaker(1).handle();
    handle.try_acquire(&1).unwrap().failure();
    tokio::time::advance(ms(199)).await;
    handle.try_acquire(&1).unwrap().failure();
    assert_room_after(&handle, 200).await;
}

/// Regression: a half-open circuit was forgotten at the next new key, and its dead host got a
/// closed one.
#[tokio::test(start_paused = true)]
async fn a_half_open_circuit_is_forgotten_no_sooner_than_an_open_one() {
    let handle = breaker(1).handle();
    handle.try_acquire(&1).unwrap().failure();
    tokio::time::advance(ms(100)).await;
    drop(handle.try_acquire(&1).unwrap());
    assert_eq!(handle.get(&1).unwrap().state(), CircuitState::HalfOpen);
    assert_room_after(&handle, 100).await;
}

// Regression: each new key checked only the eight oldest keys. Eight busy keys kept new keys out of
// a map of idle ones.

#[tokio::test(start_paused = true)]
async fn eight_open_circuits_do_not_keep_newcomers_out() {
    let config = circuit_breaker::Config::new().consecutive_failures(1);
    let handle = KeyedCircuitBreakerLayer::new(config, 1000, number as Key).unwrap().handle();
    for key in 0..8 {
        handle.try_acquire(&key).unwrap().failure();
    }
    for key in 8..1000 {
        handle.try_acquire(&key).unwrap().success();
    }
    for key in 5000..6000 {
        handle.try_acquire(&key).unwrap().success();
    }
    assert!((0..8).all(|key| handle.get(&key).unwrap().state() == CircuitState::Open));
    assert_eq!((handle.stats().keys, handle.stats().too_many_keys), (1000, 0));
}

#[tokio::test(start_paused = true)]
async fn eight_keys_with_calls_running_do_not_keep_newcomers_out() {
    let config = bulkhead::Config::new();
    let handle = KeyedBulkheadLayer::new(config, 1000, number as Key).unwrap().handle();
    let running: Vec<_> = (0..8).map(|key| handle.try_acquire(&key).unwrap()).collect();
    for key in 8..2000 {
        drop(handle.try_acquire(&key).unwrap());
    }
    assert!((0..8).all(|key| handle.get(&key).unwrap().stats().active == 1));
    assert_eq!((handle.stats().keys, handle.stats().too_many_keys), (1000, 0));
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn eight_keys_that_spent_much_do_not_keep_newcomers_out() {
    for (wait, admitted) in [(99, false), (100, true)] {
        let config = rate_limit::Config::new().max_tokens(1000).refill(1, ms(100));
        let handle = KeyedRateLimitLayer::new(config, 1000, number as Key).unwrap().handle();
        for key in 0..1000 {
            handle.try_acquire(&key, if key < 8 { 1000 } else { 1 }).unwrap();
        }
        tokio::time::advance(ms(wait)).await;
        assert_eq!(handle.try_acquire(&5000, 1).is_ok(), admitted, "after {wait} ms");
        assert!((0..8).all(|key| handle.available(&key).is_some()), "still owed");
    }
}

/// A key that panics in `clone` above 1000.
#[derive(PartialEq, Eq, Hash)]
struct Fragile(u32);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(self.0 < 1000, "cannot be copied");
        Self(self.0)
    }
}

/// Regression: a key was counted before it was copied, so each panic cost a place forever.
#[tokio::test(start_paused = true)]
async fn a_panic_of_the_key_takes_no_place() {
    let key = |request: &Ask| Fragile(request.0);
    let layer = KeyedRateLimitLayer::new(rate_limit::Config::new(), 2, key).unwrap();
    let handle = layer.handle();
    for key in 1000..1005 {
        assert_eq!(panic_of(|| handle.try_acquire(&Fragile(key), 1)), "cannot be copied");
        assert_eq!(handle.stats().keys, 0);
    }
    handle.try_acquire(&Fragile(1), 10).unwrap();
    handle.try_acquire(&Fragile(2), 1).unwrap();
    assert_eq!(handle.stats().keys, 2);
}
