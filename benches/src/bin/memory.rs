//! The bytes held by a key of a keyed limiter, a call in flight, a window of calls, and ended
//! sagas. Tab-separated: what, who, bytes, and for calls in flight a text with the size of the
//! response future.
#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a program for the developers of buttress"
)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use allocation_counter::measure;
use buttress::rate_limit::KeyedRateLimitLayer;
use buttress::{Clock, InMemory};
use buttress_benches::durable::flow::rate;
use buttress_benches::durable::{IN_FLIGHT, sagas};
use buttress_benches::floors::time_limit::TimeLimit;
use buttress_benches::held;
use buttress_benches::patterns::circuit_breaker::{buttress, by_time};
use buttress_benches::patterns::stack::{self, Extras};
use buttress_benches::patterns::time_limit::{LIMIT, layer};
use buttress_benches::patterns::{BUTTRESS, FLOOR};
use buttress_benches::peers::governor::{DashMapLimiter, HashMapLimiter, quota};
use buttress_benches::peers::tokio::{TimedOut, Within};
use buttress_benches::peers::tower_resilience::Six;
use buttress_benches::peers::{
    FAILSAFE, GOVERNOR, SEATBELT, TOKIO, TOWER, TOWER_RESILIENCE, failsafe, seatbelt,
    tower_resilience,
};
use buttress_benches::subject::call_many;
use buttress_benches::workload::{Hangs, POLLED, Succeeds};
use buttress_durable::saga::{Config, Executor, MemoryStore};
use governor::RateLimiter;
use tower::timeout::Timeout;
use tower::{Layer, Service};

const KEYS: u32 = 1_000_000;
const CALLS: u32 = 100_000;
const SAGAS: u32 = 100_000;
const SETTLE: u32 = 20_000;
/// The number of sagas that the store keeps after their end.
const KEPT: usize = 100;

fn print(what: &str, who: &str, bytes: i64, of: u32) {
    println!("{what}\t{who}\t{:.1}", bytes as f64 / f64::from(of));
}

/// Takes a token of each key. `limiter` must outlive the count.
fn keys<L>(who: &str, make: impl FnOnce() -> L, take: impl Fn(&L, u64)) {
    let mut limiter = None;
    let held = measure(|| {
        let made = limiter.insert(make());
        (0..u64::from(KEYS)).for_each(|key| take(made, key));
    });
    print("limiter with a million keys, bytes per key", who, held.bytes_current, KEYS);
}

fn all_keys() {
    keys(
        BUTTRESS,
        || {
            let config = buttress::rate_limit::Config::new().max_tokens(10);
            let key: fn(&u64) -> u64 = |key| *key;
            KeyedRateLimitLayer::new(config, KEYS as usize, key).expect("valid").handle()
        },
        |handle, key| handle.try_acquire(&key, 1).expect("room for every key"),
    );
    let ten = quota(10, 10);
    keys(
        GOVERNOR,
        || DashMapLimiter::dashmap(ten),
        |limiter, key| limiter.check_key(&key).expect("a fresh key has tokens"),
    );
    let hashmap = || -> HashMapLimiter { RateLimiter::hashmap(ten) };
    keys("governor, one locked map", hashmap, |limiter, key| {
        limiter.check_key(&key).expect("a fresh key has tokens");
    });
}

/// Spawns the calls as tasks, and counts when each was polled once and waits.
fn in_flight<S>(what: &str, who: &str, make: impl FnOnce() -> S)
where
    S: Service<u64, Response = u64, Error: Send + 'static, Future: Send + 'static>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let mut service = make();
    let held = measure(|| {
        runtime.block_on(async {
            for request in 0..u64::from(CALLS) {
                std::future::poll_fn(|cx| service.poll_ready(cx)).await.ok().expect("ready");
                drop(tokio::spawn(service.call(request)));
            }
            // All tasks are in the queue before this task continues.
            for _ in 0..CALLS / 10 {
                tokio::task::yield_now().await;
            }
        });
    });
    assert_eq!(runtime.metrics().num_alive_tasks(), CALLS as usize, "{who} waits in \"{what}\"");
    let polled = POLLED.swap(0, Ordering::Relaxed);
    assert_eq!(polled, u64::from(CALLS), "{who} polls each once in \"{what}\"");
    let each = held.bytes_current as f64 / f64::from(CALLS);
    let future = size_of::<S::Future>();
    println!("{what}\t{who}\t{each:.1}\t{each:.1}, response future {future}");
}

fn all_in_flight() {
    let what = held::TASKS;
    in_flight(what, "bare task", || Hangs);
    let what = held::LIMITED;
    in_flight(what, BUTTRESS, || layer().layer(Hangs));
    in_flight(what, FLOOR, || TimeLimit::new(Hangs, LIMIT));
    let timed = TimedOut { inner: Hangs, guard: Within(LIMIT) };
    in_flight(what, TOKIO, || timed);
    in_flight(what, TOWER, || Timeout::new(Hangs, LIMIT));
    in_flight(what, TOWER_RESILIENCE, || tower_resilience::time_limit(Hangs, LIMIT));
    let what = held::SIX;
    in_flight(what, BUTTRESS, || stack::buttress(Hangs, CALLS, Extras::Nothing));
    in_flight(what, FLOOR, || stack::floor(Hangs, CALLS));
    let room = CALLS as usize;
    in_flight(what, TOWER_RESILIENCE, || tower_resilience::six(Hangs, room, Six::Alike));
}

/// Measures a breaker with a time window after some calls: constant memory, or memory that grows
/// with the calls.
fn window<S: Service<u64, Response = u64>>(who: &str, make: impl Fn() -> S) {
    for (what, calls) in [(held::FEW, 100), (held::MANY, 10_000)] {
        let mut service = None;
        let held = measure(|| {
            call_many(service.insert(make()), calls);
        });
        print(what, who, held.bytes_current, 1);
    }
}

fn all_windows() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let length = Duration::from_secs(600);
    window(BUTTRESS, || buttress(by_time(length), Succeeds));
    window(FAILSAFE, || failsafe::time_window(Succeeds, length, 0.5));
    window(SEATBELT, || seatbelt::time_window(Succeeds, length, 100, 0.5));
    window(TOWER_RESILIENCE, || tower_resilience::time_window(Succeeds, length, 0.5));
}

/// The first sagas fill the retention and let maps reach their size. Afterwards no memory may grow.
fn sagas() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let (definition, last) = sagas::definition(InMemory);
    let store = MemoryStore::new(Clock::default()).keep_ended(KEPT);
    let executor = Executor::new(definition, store, Config::new()).expect("valid");
    let run = |sagas: u32| {
        let work = sagas::run(BUTTRESS, executor.clone(), last);
        runtime.block_on(rate(sagas.into(), IN_FLIGHT, work));
    };
    run(SETTLE);
    let held = measure(|| run(SAGAS));
    assert_eq!(executor.stats().completed, u64::from(SETTLE + SAGAS), "all of the work");
    print(held::SAGAS, BUTTRESS, held.bytes_current, 1);
}

fn main() {
    all_keys();
    all_in_flight();
    all_windows();
    sagas();
}
