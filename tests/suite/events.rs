//! The events of layers: each once, with the layer's name, and none for a call that was admitted
//! and succeeded.

mod panics;
mod reentrant;

use std::sync::{Arc, Mutex};

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::retry::{self, Backoff, RetryLayer};
use buttress::{CircuitState, ErrorKind, Event, GaveUp, Name, Observer};
use tower::Layer;

use crate::support::{Ask, Scripted, Step, begin, behind, call, is_pending, ms, now};

#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<(String, Event)>>>);

impl Ear {
    /// Returns the events since the last call. All must be from `name`.
    fn heard(&self, name: &str) -> Vec<Event> {
        let told: Vec<_> = self.0.lock().unwrap().drain(..).collect();
        assert!(told.iter().all(|(layer, _)| layer == name), "{told:?}");
        told.into_iter().map(|(_, event)| event).collect()
    }

    /// Returns the kind of the only event, a refusal.
    fn heard_refusal(&self, name: &str) -> ErrorKind {
        match &self.heard(name)[..] {
            [Event::Refused(error)] => error.kind(),
            other => panic!("not one refusal: {other:?}"),
        }
    }
}

impl Observer for Ear {
    fn on_event(&self, layer: Name, event: &Event) {
        self.0.lock().unwrap().push((layer.to_string(), event.clone()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_tells_every_change_of_state_and_every_refusal() {
    use CircuitState::{Closed, Disabled, ForcedOpen, HalfOpen, Open};

    let ear = Ear::default();
    let config = circuit_breaker::Config::new().consecutive_failures(1).open_for(ms(100));
    let layer = CircuitBreakerLayer::new(config.name("api").observer(ear.clone())).unwrap();
    let handle = layer.handle();
    let changed = |from, to| Event::CircuitChanged { from, to, circuit: 0 };
    let (mut service, log) = behind(&layer, []);
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    assert_eq!(ear.heard("api"), []);
    log.then([Step::Fail]);
    assert!(now(begin(&mut service, Ask(0))).is_err());
    assert_eq!(ear.heard("api"), [changed(Closed, Open)]);
    let response = begin(&mut service, Ask(0));
    assert_eq!(ear.heard_refusal("api"), ErrorKind::CircuitOpen);
    assert!(now(response).is_err());
    assert_eq!(ear.heard("api"), [], "the refusal was reported when it was made");
    tokio::time::advance(ms(100)).await;
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    assert_eq!(ear.heard("api"), [changed(Open, HalfOpen), changed(HalfOpen, Closed)]);
    handle.force_open();
    handle.force_open();
    handle.disable();
    handle.reset();
    let told =
        [changed(Closed, ForcedOpen), changed(ForcedOpen, Disabled), changed(Disabled, Closed)];
    assert_eq!(ear.heard("api"), told, "a state it is in already is not a change");
}

#[tokio::test(start_paused = true)]
async fn limiters_tell_refusals_and_live_changes() {
    let ear = Ear::default();
    let config = || rate_limit::Config::new().max_tokens(1).name("api").observer(ear.clone());
    let layer = RateLimitLayer::new(config()).unwrap();
    let mut service = layer.layer(Scripted::new().0);
    assert!(now(begin(&mut service, Ask(0))).is_ok());
    assert_eq!(ear.heard("api"), []);
    assert!(now(begin(&mut service, Ask(0))).is_err());
    assert_eq!(ear.heard_refusal("api"), ErrorKind::RateLimited);
    layer.handle().reconfigure(&config()).unwrap();
    assert_eq!(ear.heard("api"), [Event::Reconfigured]);
    assert!(layer.handle().reconfigure(&config().max_tokens(0)).is_err());
    assert_eq!(ear.heard("api"), [], "nothing changed");
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_tells_refusals_and_waits_in_vain() {
    let ear = Ear::default();
    let config = bulkhead::Config::new().max_concurrent(1).queue(1).max_wait(ms(50));
    let layer = BulkheadLayer::new(config.name("db").observer(ear.clone())).unwrap();
    let mut service = layer.clone().queued().layer(Scripted::new().0);
    let running = layer.handle().try_acquire().unwrap();
    let mut waits = begin(&mut service, Ask(0));
    assert!(is_pending(&mut waits));
    assert_eq!(ear.heard("db"), [], "waiting is not a refusal");
    assert!(now(begin(&mut service, Ask(0))).is_err());
    assert_eq!(ear.heard_refusal("db"), ErrorKind::BulkheadFull);
    tokio::time::advance(ms(50)).await;
    assert!(now(waits).is_err());
    assert_eq!(ear.heard_refusal("db"), ErrorKind::QueueTimeout);
    drop(running);
    layer.handle().resize(2).unwrap();
    assert_eq!(ear.heard("db"), [Event::Reconfigured]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_tells_each_further_attempt_and_why_there_is_none() {
    let ear = Ear::default();
    let config = || {
        let backoff = Backoff::exponential(ms(100)).jitter(retry::Jitter::None);
        retry::Config::new().backoff(backoff).name("api").observer(ear.clone())
    };
    let retrying = |attempt, wait| Event::Retrying { attempt, delay: ms(wait) };
    let gave_up = |attempts, reason| Event::RetriesExhausted { attempts, reason };
    let budget = || retry::Budget::new(0.0, 0).unwrap();
    for (config, told) in [
        (config(), vec![retrying(1, 100), retrying(2, 200), gave_up(3, GaveUp::Attempts)]),
        (config().total_time(ms(150)), vec![retrying(1, 100), gave_up(2, GaveUp::TotalTime)]),
        (config().budget(budget()), vec![gave_up(1, GaveUp::Budget)]),
    ] {
        let (inner, log) = Scripted::new();
        log.always(Step::Fail);
        assert!(call(&mut RetryLayer::new(config).unwrap().layer(inner), Ask(0)).await.is_err());
        assert_eq!(ear.heard("api"), told);
    }
    assert!(
        call(&mut RetryLayer::new(config()).unwrap().layer(Scripted::new().0), Ask(0))
            .await
            .is_ok()
    );
    assert_eq!(ear.heard("api"), []);
}

/// Events are sent outside of every lock: an observer may read the layer that sends them.
#[tokio::test(start_paused = true)]
async fn an_observer_may_look_at_the_layer_it_hears() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handle: Arc<Mutex<Option<circuit_breaker::Handle>>> = Arc::default();
    let (sees, asks) = (seen.clone(), handle.clone());
    let observer = move |_: Name, _: &Event| {
        let handle = asks.lock().unwrap();
        let handle = handle.as_ref().unwrap();
        sees.lock().unwrap().push((handle.stats().state, handle.check().is_err()));
    };
    let config = circuit_breaker::Config::new().consecutive_failures(1).observer(observer);
    let layer = CircuitBreakerLayer::new(config).unwrap();
    *handle.lock().unwrap() = Some(layer.handle());
    layer.handle().try_acquire().unwrap().failure();
    assert!(layer.handle().try_acquire().is_err());
    assert_eq!(*seen.lock().unwrap(), [(CircuitState::Open, true); 2]);
}
