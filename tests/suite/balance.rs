//! Balance: which endpoint gets a call, what happens when it cannot take the call, and how failures take it out.

mod outliers;
mod refusals;
mod resolving;
mod waiting;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress::balance::{Balance, Config, Endpoints, Outliers, Policy, Tried};
use buttress::discover::Instance;
use buttress::retry::{Backoff, RetryLayer};
use buttress::{Clock, ErrorKind, Rng, retry};
use tower::{BoxError, Layer, Service, service_fn};

use crate::support::{
    AppError, Ask, Log, Scripted, Step, begin, call, is_pending, ms, now, panic_of,
};

/// Scripted endpoints by id, and the set of them.
struct Backends {
    set: Endpoints<Scripted>,
    services: BTreeMap<String, (Scripted, Log)>,
}

impl Backends {
    fn new(ids: &[&str]) -> Self {
        let mut backends = Self { set: Endpoints::new(), services: BTreeMap::new() };
        backends.replace(ids);
        backends
    }

    fn replace(&mut self, ids: &[&str]) {
        let instances: Vec<Instance> = ids.iter().map(|id| Instance::at(*id)).collect();
        for id in ids {
            self.services.entry((*id).to_owned()).or_insert_with(Scripted::new);
        }
        self.set.replace(&instances, |instance| self.services[instance.id()].0.clone());
    }

    fn log(&self, id: &str) -> &Log {
        &self.services[id].1
    }

    fn each(&self, f: impl Fn(&Log)) {
        self.services.values().for_each(|(_, log)| f(log));
    }

    fn calls(&self) -> Vec<usize> {
        self.services.values().map(|(_, log)| log.calls()).collect()
    }

    fn balance(&self, config: Config) -> Balance<Scripted> {
        Balance::new(self.set.clone(), config.name("orders").rng(Rng::seeded(1))).unwrap()
    }
}

fn in_turn() -> Config {
    Config::new().policy(Policy::RoundRobin)
}

#[tokio::test(start_paused = true)]
async fn edge_5_11_clones_share_the_turns_of_a_round() {
    let set = Endpoints::new();
    let (heavy, light) = (Scripted::new(), Scripted::new());
    let instances = [Instance::at("heavy").with_weight(3), Instance::at("light")];
    set.replace(
        &instances,
        |it| if it.id() == "heavy" { heavy.0.clone() } else { light.0.clone() },
    );
    let balance = Balance::new(set, in_turn()).unwrap();
    for _ in 0..4_000 {
        now(begin(&mut balance.clone(), Ask(0))).unwrap();
    }
    assert_eq!((heavy.1.calls(), light.1.calls()), (3_000, 1_000));
}

#[tokio::test(start_paused = true)]
async fn edge_5_12_a_key_goes_to_one_endpoint_and_elsewhere_only_while_that_is_out() {
    let mut backends = Backends::new(&["a", "b", "c"]);
    let mut balance = backends.balance(Config::new()).key(|ask: &Ask| Some(ask.0.into()));
    let mut homes = BTreeMap::new();
    for key in 0..60 {
        for _ in 0..3 {
            let before = backends.calls();
            now(begin(&mut balance, Ask(key))).unwrap();
            let place = backends.calls().iter().zip(&before).position(|(now, then)| now != then);
            assert_eq!(*homes.entry(key).or_insert(place), place, "key {key}");
        }
    }
    for place in 0..3 {
        let keys = homes.values().filter(|home| **home == Some(place)).count();
        assert!((10..=30).contains(&keys), "{keys} of 60");
    }
    backends.replace(&["b", "c"]);
    for (key, home) in &homes {
        let before = backends.calls();
        now(begin(&mut balance, Ask(*key))).unwrap();
        let place = backends.calls().iter().zip(&before).position(|(now, then)| now != then);
        assert!(place == *home || *home == Some(0), "key {key} moved");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_key_go_by_the_policy() {
    let backends = Backends::new(&["a", "b"]);
    let mut balance = backends.balance(in_turn()).key(|_: &Ask| None);
    (0..10).for_each(|_| assert!(now(begin(&mut balance, Ask(0))).is_ok()));
    assert_eq!(backends.calls(), [5, 5]);
}

/// A request that remembers the endpoints of its attempts.
#[derive(Clone, Default)]
struct Marked {
    tried: Tried,
}

#[tokio::test(start_paused = true)]
async fn attempts_of_a_request_never_meet_the_same_endpoint_while_there_is_another() {
    // More endpoints than a word has bits.
    let instances: Vec<Instance> = (0..100).map(|id| Instance::at(id.to_string())).collect();
    let met = Arc::new(Mutex::new(Vec::new()));
    let make = |instance: &Instance| {
        let (id, met) = (instance.id().to_owned(), met.clone());
        service_fn(move |_: Marked| {
            met.lock().unwrap().push(id.clone());
            std::future::ready(Err::<(), BoxError>("broken".into()))
        })
    };
    for policy in [Policy::PeakEwma, Policy::LeastPending, Policy::RoundRobin] {
        let set = Endpoints::new();
        set.replace(&instances, make);
        let balance = Balance::new(set, Config::new().policy(policy)).unwrap();
        let balance = balance.tried(|request: &Marked| Some(&request.tried));
        let attempts = retry::Config::new().attempts(100).backoff(Backoff::none());
        let mut service = RetryLayer::new(attempts).unwrap().layer(balance);
        let request = Marked::default();
        call(&mut service, request.clone()).await.unwrap_err();
        assert_eq!(request.tried.len(), 100);
        let mut ids = std::mem::take(&mut *met.lock().unwrap());
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 100, "each endpoint once");
        // Every endpoint was met: any may be next.
        call(&mut service, request.clone()).await.unwrap_err();
        assert_eq!(request.tried.len(), 100);
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_in_which_an_endpoint_waits_for_its_caller_is_not_its_latency() {
    let minute = Duration::from_secs(60);
    for (is_told, is_dropped) in [(false, false), (true, false), (false, true), (true, true)] {
        let set = Endpoints::new();
        let make = |_: &Instance| {
            service_fn(move |request: Marked| async move {
                let clock = Clock::default();
                clock.sleep(minute).await;
                if is_told {
                    request.tried.begun_at(clock.now());
                }
                clock.sleep(ms(10)).await;
                Ok::<_, BoxError>(())
            })
        };
        set.replace(&[Instance::at("a")], make);
        let balance = Balance::new(set, Config::new()).unwrap();
        let mut balance = balance.tried(|request: &Marked| Some(&request.tried));
        let request = Marked::default();
        let mut answer = begin(&mut balance, request);
        if is_dropped {
            assert!(is_pending(&mut answer));
            Clock::default().sleep(minute + ms(5)).await;
            assert!(is_pending(&mut answer));
            drop(answer);
        } else {
            answer.await.unwrap();
        }
        let latency = balance.handle().endpoints()[0].latency;
        assert_eq!(latency < Duration::from_secs(1), is_told, "{is_dropped} {latency:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_belongs_to_one_balancer() {
    let backends = Backends::new(&["a"]);
    let _first = backends.balance(Config::new());
    let error = Balance::new(backends.set.clone(), Config::new()).unwrap_err();
    assert_eq!(error.to_string(), "endpoints: a set in use is not the set of no other balancer");
}

#[tokio::test(start_paused = true)]
async fn edge_5_3_a_removed_endpoint_finishes_its_calls_and_gets_no_new_one() {
    let mut backends = Backends::new(&["a", "b"]);
    let mut balance = backends.balance(in_turn());
    backends.log("a").then([Step::Held]);
    backends.log("b").then([Step::Held]);
    let mut calls = [begin(&mut balance, Ask(0)), begin(&mut balance, Ask(0))];
    assert!(calls.iter_mut().all(is_pending));
    backends.replace(&["b"]);
    let handle = balance.handle();
    assert_eq!((handle.stats().endpoints, handle.stats().pending), (1, 1), "b's own");
    (0..10).for_each(|_| assert!(now(begin(&mut balance, Ask(0))).is_ok()));
    assert_eq!(backends.calls(), [1, 11]);
    backends.log("a").open();
    backends.log("b").open();
    for call in calls {
        assert_eq!(now(call), Ok(1));
    }
    // It comes back under its address: its calls are counted with its old ones.
    backends.replace(&["a", "b"]);
    assert_eq!(handle.endpoints()[0].pending, 0);
}

#[tokio::test(start_paused = true)]
async fn edge_5_4_a_call_that_was_made_and_not_polled_does_not_go_to_a_removed_endpoint() {
    let mut backends = Backends::new(&["a"]);
    let mut balance = backends.balance(Config::new());
    let made = begin(&mut balance, Ask(0));
    backends.replace(&["b"]);
    now(made).unwrap();
    assert_eq!(backends.calls(), [0, 1]);
    assert_eq!(balance.handle().stats().pending, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_or_panics_leaves_its_place() {
    let backends = Backends::new(&["a"]);
    let mut balance = backends.balance(Config::new().count_calls(true));
    let pending = |balance: &Balance<Scripted>| balance.handle().stats().pending;
    let log = backends.log("a");
    log.then([Step::Never, Step::PanicInCall, Step::PanicAtPoll(1)]);
    let never_polled = begin(&mut balance, Ask(0));
    assert_eq!(pending(&balance), 1);
    drop(never_polled);
    assert_eq!(pending(&balance), 0);
    let mut dropped = begin(&mut balance, Ask(0));
    assert!(is_pending(&mut dropped));
    drop(dropped);
    for _ in 0..2 {
        let mut panics = begin(&mut balance, Ask(0));
        panic_of(|| is_pending(&mut panics));
        assert_eq!(pending(&balance), 0, "at the panic, and not when the future is dropped");
    }
    log.panic_ready();
    let mut panics = begin(&mut balance, Ask(0));
    panic_of(|| is_pending(&mut panics));
    assert_eq!(pending(&balance), 0);
    assert_eq!(now(begin(&mut balance, Ask(0))), Ok(4));
    let stats = balance.handle().stats();
    assert_eq!(
        (stats.calls, stats.failures),
        (Some(6), 0),
        "a call that was dropped is not a failure"
    );
    assert_eq!(balance.handle().endpoints()[0].calls, Some(4));
}

#[tokio::test(start_paused = true)]
async fn the_measure_of_an_endpoint_knows_answers_failures_and_dropped_calls() {
    let backends = Backends::new(&["a", "b"]);
    let mut balance = backends.balance(in_turn().eject(Outliers::new()));
    let handle = balance.handle();
    let latencies =
        || handle.endpoints().iter().map(|it| it.latency.as_millis()).collect::<Vec<_>>();
    backends.each(|log| {
        log.always(Step::AnswerAfter(100));
    });
    let mut both: Vec<_> = (0..2).map(|_| begin(&mut balance, Ask(0))).collect();
    assert!(both.iter_mut().all(is_pending));
    tokio::time::advance(ms(100)).await;
    both.into_iter().for_each(|call| assert_eq!(now(call), Ok(1)));
    assert_eq!(latencies(), [100, 100]);
    backends.each(|log| {
        log.then([Step::Fail]);
    });
    now(begin(&mut balance, Ask(0))).unwrap_err();
    assert_eq!(latencies().iter().max(), Some(&200), "a failure looks slow, however fast it came");
    now(begin(&mut balance, Ask(0))).unwrap_err();
    assert_eq!(latencies(), [200, 200]);
    let mut never = begin(&mut balance, Ask(0));
    backends.log("a").always(Step::Never);
    backends.log("b").always(Step::Never);
    assert!(is_pending(&mut never));
    tokio::time::advance(ms(700)).await;
    drop(never);
    assert_eq!(latencies().iter().max(), Some(&700), "it took at least that long");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_endpoint_makes_it_look_slow_and_is_no_failure() {
    let set = Endpoints::new();
    let full = buttress::bulkhead::Config::new().max_concurrent(1).build().unwrap();
    let _taken = full.handle().try_acquire().unwrap();
    let free = buttress::bulkhead::Config::new().build().unwrap();
    let (refuses, works) = (Scripted::new(), Scripted::new());
    set.replace(&[Instance::at("full"), Instance::at("free")], |it| match it.id() {
        "full" => full.layer(refuses.0.clone()),
        _ => free.layer(works.0.clone()),
    });
    works.1.always(Step::AnswerAfter(10));
    let mut balance = Balance::new(set, Config::new().rng(Rng::seeded(2))).unwrap();
    let mut refused = 0;
    for _ in 0..1_600 {
        let answer: Result<u32, AppError> = call(&mut balance, Ask(0)).await;
        refused += u32::from(answer.is_err_and(|it| it.kind() == Some(ErrorKind::BulkheadFull)));
    }
    assert!((1..=30).contains(&refused), "{refused} of 1600 calls");
    assert_eq!(balance.handle().stats().failures, 0);
}

#[tokio::test(start_paused = true)]
async fn it_works_in_a_spawned_task_over_boxed_errors() {
    let set = Endpoints::new();
    set.replace(&[Instance::at("a")], |_| {
        service_fn(async |ask: u32| Ok::<u32, BoxError>(ask * 2))
    });
    let mut balance = Balance::new(set, Config::new()).unwrap();
    let task = tokio::spawn(async move {
        let boxed: Result<u32, BoxError> = balance.call(21).await;
        boxed
    });
    assert_eq!(task.await.unwrap().unwrap(), 42);
}

#[test]
fn a_configuration_names_what_is_wrong() {
    let error = |config: Config| {
        let set: Endpoints<Scripted> = Endpoints::new();
        Balance::new(set, config).unwrap_err().to_string()
    };
    let year = std::time::Duration::from_secs(366 * 24 * 3600);
    assert_eq!(error(Config::new().ramp(year)), "ramp: 31622400s is not at most 365 days");
    assert_eq!(error(Config::new().max_wait(year)), "max-wait: 31622400s is not at most 365 days");
    for (outliers, expected) in [
        (
            Outliers::new().consecutive_failures(0),
            "eject.consecutive-failures: 0 is not at least 1",
        ),
        (Outliers::new().minimum_calls(0), "eject.minimum-calls: 0 is not at least 1"),
        (Outliers::new().failure_rate(0.0), "eject.failure-rate: 0 is not above 0 and at most 1"),
        (
            Outliers::new().failure_rate(f64::NAN),
            "eject.failure-rate: NaN is not above 0 and at most 1",
        ),
        (Outliers::new().window(ms(0)), "eject.window: 0s is not longer than zero"),
        (Outliers::new().away(ms(0)), "eject.away: 0s is not longer than zero"),
        (Outliers::new().longest(ms(9_999)), "eject.longest: 9.999s is not at least eject.away"),
    ] {
        assert_eq!(error(Config::new().eject(outliers)), expected);
    }
}
