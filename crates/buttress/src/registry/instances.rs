//! The instances of a registry, and how a document changes them. All checks run before the first
//! change.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::Document;
use super::{Applied, Pattern};
use crate::machinery::reconfigure::{Operated, Reconfigure};
use crate::vocabulary::clock::Clock;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::{Event, Observer};
use crate::{balance, bulkhead, circuit_breaker, rate_limit, retry, time_limit};

/// Handles by name, sorted.
pub(super) type Group<H> = BTreeMap<String, H>;

/// Settings of instances that are not in the document.
#[derive(Default)]
pub(super) struct Setup {
    pub clock: Clock,
    pub observer: Option<Arc<dyn Observer>>,
    pub count_calls: bool,
}

#[derive(Default)]
pub(super) struct Instances {
    pub setup: Setup,
    pub balancers: Group<balance::Rules>,
    pub bulkheads: Group<bulkhead::Handle>,
    pub circuit_breakers: Group<circuit_breaker::Handle>,
    pub rate_limiters: Group<rate_limit::Handle>,
    pub retries: Group<retry::Handle>,
    pub time_limiters: Group<time_limit::Handle>,
}

impl Instances {
    /// Applies `document`. Also returns the notifications. The caller sends them after it has
    /// released the lock.
    pub(super) fn apply(
        &mut self,
        document: &Document,
    ) -> Result<(Applied, Vec<Announce>), InvalidConfig> {
        let (setup, patterns) = (&self.setup, &document.patterns);
        let balancers = plan(setup, &self.balancers, &patterns.balance)?;
        let bulkheads = plan(setup, &self.bulkheads, &patterns.bulkhead)?;
        let breakers = plan(setup, &self.circuit_breakers, &patterns.circuit_breaker)?;
        let limiters = plan(setup, &self.rate_limiters, &patterns.rate_limiter)?;
        let retries = plan(setup, &self.retries, &patterns.retry)?;
        let times = plan(setup, &self.time_limiters, &patterns.time_limiter)?;

        let (mut done, to_tell) = (Applied::default(), &mut Vec::new());
        carry_out(balancers, &mut self.balancers, &patterns.balance, &mut done, to_tell);
        carry_out(bulkheads, &mut self.bulkheads, &patterns.bulkhead, &mut done, to_tell);
        carry_out(
            breakers,
            &mut self.circuit_breakers,
            &patterns.circuit_breaker,
            &mut done,
            to_tell,
        );
        carry_out(limiters, &mut self.rate_limiters, &patterns.rate_limiter, &mut done, to_tell);
        carry_out(retries, &mut self.retries, &patterns.retry, &mut done, to_tell);
        carry_out(times, &mut self.time_limiters, &patterns.time_limiter, &mut done, to_tell);
        Ok((done, std::mem::take(to_tell)))
    }

    pub(super) fn names(&self, pattern: Pattern) -> Vec<Name> {
        fn of<H>(group: &Group<H>) -> Vec<Name> {
            group.keys().map(|name| Name::from(name.clone())).collect()
        }
        match pattern {
            Pattern::Balance => of(&self.balancers),
            Pattern::Bulkhead => of(&self.bulkheads),
            Pattern::CircuitBreaker => of(&self.circuit_breakers),
            Pattern::RateLimiter => of(&self.rate_limiters),
            Pattern::Retry => of(&self.retries),
            Pattern::TimeLimiter => of(&self.time_limiters),
        }
    }
}

/// The interface between a registry and a pattern's handle.
trait Instance: Operated<Shared: Reconfigure<Config: Clone>> + Clone + Send + 'static {
    const PATTERN: Pattern;
    fn create(config: Rules<Self>, name: Name, setup: &Setup) -> Result<Self, InvalidConfig>;
}

/// The configuration of a handle's pattern.
type Rules<H> = <<H as Operated>::Shared as Reconfigure>::Config;

/// Reports one change.
pub(super) type Announce = Box<dyn FnOnce() + Send>;

/// Creates new instances, and checks the changes of existing ones. Changes nothing.
fn plan<H: Instance>(
    setup: &Setup,
    live: &Group<H>,
    wanted: &BTreeMap<String, Rules<H>>,
) -> Result<Group<H>, InvalidConfig> {
    let mut created = Group::new();
    for (name, config) in wanted {
        let checked = match live.get(name) {
            Some(handle) => H::Shared::accepts(&handle.shared().config(), config),
            None => H::create(config.clone(), Name::from(name.clone()), setup)
                .map(|handle| drop(created.insert(name.clone(), handle))),
        };
        checked.map_err(|error| error.within(&format!("{}.{name}", H::PATTERN)))?;
    }
    Ok(created)
}

/// Applies the planned and checked changes.
fn carry_out<H: Instance>(
    created: Group<H>,
    live: &mut Group<H>,
    wanted: &BTreeMap<String, Rules<H>>,
    applied: &mut Applied,
    to_tell: &mut Vec<Announce>,
) {
    for (name, handle) in live.iter() {
        let entry = (H::PATTERN, Name::from(name.clone()));
        match wanted.get(name) {
            Some(config) => {
                handle.shared().apply(config);
                let handle = handle.clone();
                to_tell.push(Box::new(move || handle.shared().announce()));
                applied.updated.push(entry);
            }
            None => applied.unmentioned.push(entry),
        }
    }
    applied.created.extend(created.keys().map(|name| (H::PATTERN, Name::from(name.clone()))));
    live.extend(created);
}

/// An observer that several configurations share.
struct Forward(Arc<dyn Observer>);

impl Observer for Forward {
    fn on_event(&self, layer: Name, event: &Event) {
        self.0.on_event(layer, event);
    }
}

macro_rules! instance {
    ($handle:ty, $config:ty, $pattern:expr, $make:expr) => {
        impl Instance for $handle {
            const PATTERN: Pattern = $pattern;

            fn create(config: $config, name: Name, setup: &Setup) -> Result<Self, InvalidConfig> {
                let config =
                    config.name(name).clock(setup.clock.clone()).count_calls(setup.count_calls);
                let config = match &setup.observer {
                    Some(observer) => config.observer(Forward(observer.clone())),
                    None => config,
                };
                $make(config)
            }
        }
    };
}

instance!(balance::Rules, balance::Config, Pattern::Balance, |config| balance::Rules::new(&config));
instance!(bulkhead::Handle, bulkhead::Config, Pattern::Bulkhead, |config| {
    bulkhead::BulkheadLayer::new(config).map(|layer| layer.handle())
});
instance!(circuit_breaker::Handle, circuit_breaker::Config, Pattern::CircuitBreaker, |config| {
    circuit_breaker::CircuitBreakerLayer::new(config).map(|layer| layer.handle())
});
instance!(rate_limit::Handle, rate_limit::Config, Pattern::RateLimiter, |config| {
    rate_limit::RateLimitLayer::new(config).map(|layer| layer.handle())
});
instance!(retry::Handle, retry::Config, Pattern::Retry, |config| {
    retry::RetryLayer::new(config).map(|layer| layer.handle())
});
instance!(time_limit::Handle, time_limit::Config, Pattern::TimeLimiter, |config| {
    time_limit::TimeLimitLayer::new(config).map(|layer| layer.handle())
});
