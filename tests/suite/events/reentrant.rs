//! An observer is called outside of every lock: it may use the sender of the event.

use std::sync::{Arc, Mutex};

use buttress::bulkhead::{self, KeyedBulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer, KeyedCircuitBreakerLayer};
use buttress::rate_limit::{self, KeyedRateLimitLayer};
use buttress::registry::{Document, Pattern, Registry};
use buttress::{CircuitState, Event, Name, Observer};

use crate::support::{Ask, without_deadlock};

type Act = Box<dyn FnOnce() + Send>;

/// Runs one action of the user at the first event.
#[derive(Clone, Default)]
struct Busy(Arc<Mutex<Option<Act>>>);

impl Busy {
    fn will(&self, act: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(act));
    }

    fn is_done(&self) -> bool {
        self.0.lock().unwrap().is_none()
    }

    /// Changes the rules behind `handle` to the first ones. The event of that change makes the
    /// observer change them to the second ones.
    fn changes_twice<H: Clone + Send + 'static, C: Send + 'static>(
        &self,
        handle: &H,
        [first, second]: [C; 2],
        change: fn(&H, &C),
    ) {
        let inside = handle.clone();
        self.will(move || change(&inside, &second));
        change(handle, &first);
        assert!(self.is_done());
    }
}

impl Observer for Busy {
    fn on_event(&self, _: Name, _: &Event) {
        let act = self.0.lock().unwrap().take();
        act.into_iter().for_each(|act| act());
    }
}

/// Regression: an observer that read the names of the registry waited for the change that it was
/// notified of.
#[test]
fn an_observer_may_use_the_registry_that_told_it() {
    without_deadlock(async || {
        let yaml = |text: &str| serde_norway::from_str::<Document>(text).unwrap();
        let busy = Busy::default();
        let registry = Registry::empty().observer(busy.clone());
        registry.apply(&yaml("{bulkhead: {a: {}, b: {}}, retry: {a: {}}}")).unwrap();
        let seen = registry.clone();
        let further = yaml("rate-limiter: {a: {}}");
        busy.will(move || {
            let stats = seen.bulkhead("b").unwrap().handle().stats();
            assert_eq!(stats.max_concurrent, 3, "reported when the whole document is in force");
            assert_eq!(seen.names(Pattern::Bulkhead).len(), 2);
            seen.apply(&further).unwrap();
        });
        let changed = yaml("{bulkhead: {a: {}, b: {max-concurrent: 3}}}");
        let applied = registry.apply(&changed).unwrap();
        assert_eq!((applied.updated.len(), applied.created.len()), (2, 0));
        assert!(busy.is_done());
        assert_eq!(registry.names(Pattern::RateLimiter).len(), 1);
    });
}

/// Regression: a change of a keyed layer was reported while changes were locked out.
#[test]
fn an_observer_may_change_the_keyed_layer_that_told_it() {
    without_deadlock(async || {
        let key = |ask: &Ask| ask.0;
        let busy = Busy::default();

        let config = rate_limit::Config::new;
        let limiter =
            KeyedRateLimitLayer::new(config().observer(busy.clone()), 9, key).unwrap().handle();
        busy.changes_twice(
            &limiter,
            [config().max_tokens(5), config().max_tokens(3)],
            |it, rules| {
                it.reconfigure(rules).unwrap();
            },
        );
        assert!(limiter.try_acquire(&1, 4).is_err(), "the later change holds");

        let config = bulkhead::Config::new;
        let wall =
            KeyedBulkheadLayer::new(config().observer(busy.clone()), 9, key).unwrap().handle();
        busy.changes_twice(
            &wall,
            [config().max_concurrent(5), config().max_concurrent(3)],
            |it, rules| {
                it.reconfigure(rules).unwrap();
            },
        );
        drop(wall.try_acquire(&1).unwrap());
        assert_eq!(wall.get(&1).unwrap().stats().max_concurrent, 3);

        let config = circuit_breaker::Config::new;
        let breaker = KeyedCircuitBreakerLayer::new(config().observer(busy.clone()), 9, key)
            .unwrap()
            .handle();
        busy.changes_twice(
            &breaker,
            [config().consecutive_failures(3), config().consecutive_failures(1)],
            |it, rules| {
                it.reconfigure(rules).unwrap();
            },
        );
        breaker.try_acquire(&1).unwrap().failure();
        assert_eq!(breaker.get(&1).unwrap().state(), CircuitState::Open);
    });
}

#[test]
fn an_observer_may_use_the_circuit_that_told_it() {
    without_deadlock(async || {
        let busy = Busy::default();
        let config = circuit_breaker::Config::new().consecutive_failures(1);
        let breaker = CircuitBreakerLayer::new(config.observer(busy.clone())).unwrap().handle();
        let inside = breaker.clone();
        busy.will(move || {
            assert_eq!(inside.stats().opened, 1);
            assert!(inside.check().is_err());
            inside.reconfigure(&circuit_breaker::Config::new()).unwrap();
            inside.reset();
        });
        breaker.try_acquire().unwrap().failure();
        assert!(busy.is_done());
        assert_eq!((breaker.state(), breaker.stats().transitions), (CircuitState::Closed, 2));
    });
}
