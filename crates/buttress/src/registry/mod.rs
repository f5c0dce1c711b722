#![doc = include_str!("../guide/registry.md")]

mod document;
mod instances;

use std::fmt;
use std::sync::Arc;

pub use document::Document;
use instances::{Group, Instances, Setup};

use crate::bulkhead::BulkheadLayer;
use crate::circuit_breaker::CircuitBreakerLayer;
use crate::rate_limit::RateLimitLayer;
use crate::retry::RetryLayer;
use crate::sync::{Mutex, lock};
use crate::time_limit::TimeLimitLayer;
use crate::vocabulary::clock::Clock;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::Observer;

/// The patterns a [`Registry`] builds, by their names in documents.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Pattern {
    /// `bulkhead`
    Bulkhead,
    /// `circuit-breaker`
    CircuitBreaker,
    /// `rate-limiter`
    RateLimiter,
    /// `retry`
    Retry,
    /// `time-limiter`
    TimeLimiter,
}

impl Pattern {
    /// Returns the name in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bulkhead => "bulkhead",
            Self::CircuitBreaker => "circuit-breaker",
            Self::RateLimiter => "rate-limiter",
            Self::Retry => "retry",
            Self::TimeLimiter => "time-limiter",
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that a registry does not have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no {pattern} is named \"{name}\"; there are: {known}")]
pub struct UnknownName {
    pattern: Pattern,
    name: String,
    known: String,
}

/// What [`Registry::apply`] did, by pattern and name, sorted.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// Instances that are new.
    pub created: Vec<(Pattern, Name)>,
    /// Instances that were there and took over the document's values.
    pub updated: Vec<(Pattern, Name)>,
    /// Instances the document does not mention. They stay, with their state and last values, so that a
    /// slip in a document cannot take a limit away.
    pub unmentioned: Vec<(Pattern, Name)>,
}

/// Named instances of the patterns, built from one document and changed by the next. Cheap to clone;
/// clones share the instances. See the [module](self).
#[derive(Clone)]
pub struct Registry {
    instances: Arc<Mutex<Instances>>,
}

impl Registry {
    /// Returns the instances of `document`.
    ///
    /// # Errors
    /// The first value that cannot be, with its path: `rate-limiter.payment-api.max-tokens`.
    pub fn new(document: &Document) -> Result<Self, InvalidConfig> {
        let registry = Self::empty();
        registry.apply(document)?;
        Ok(registry)
    }

    /// No instances yet.
    #[must_use]
    pub fn empty() -> Self {
        Self { instances: Arc::new(Mutex::new(Instances::default())) }
    }

    /// Sets the clock of instances created from now on.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        self.set_up(|setup| setup.clock = clock)
    }

    /// Sets the observer of instances created from now on.
    #[must_use]
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        self.set_up(|setup| setup.observer = Some(Arc::new(observer)))
    }

    /// Sets whether instances created from now on count the calls that pass.
    #[must_use]
    pub fn count_calls(self, count: bool) -> Self {
        self.set_up(|setup| setup.count_calls = count)
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        change(&mut lock(&self.instances).setup);
        self
    }

    /// Makes the instances what `document` says: new names are created, known ones take over its values
    /// and keep their state. All or nothing: a document with any mistake changes nothing.
    ///
    /// # Errors
    /// The first value that cannot be, with its path, or that cannot change while an instance runs.
    pub fn apply(&self, document: &Document) -> Result<Applied, InvalidConfig> {
        let (applied, to_tell) = lock(&self.instances).apply(document)?;
        to_tell.into_iter().for_each(|announce| announce());
        Ok(applied)
    }

    /// Returns the names of one pattern, sorted.
    #[must_use]
    pub fn names(&self, pattern: Pattern) -> Vec<Name> {
        lock(&self.instances).names(pattern)
    }

    /// Returns a layer over the named rate limiter, starting with the default rejector and cost.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn rate_limiter(&self, name: &str) -> Result<RateLimitLayer, UnknownName> {
        let instances = lock(&self.instances);
        let handle = find(Pattern::RateLimiter, name, &instances.rate_limiters)?;
        Ok(RateLimitLayer::from_handle(handle))
    }

    /// Returns a layer over the named circuit breaker, starting with the default classifier and
    /// rejector.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn circuit_breaker(&self, name: &str) -> Result<CircuitBreakerLayer, UnknownName> {
        let instances = lock(&self.instances);
        let handle = find(Pattern::CircuitBreaker, name, &instances.circuit_breakers)?;
        Ok(CircuitBreakerLayer::from_handle(handle))
    }

    /// Returns a layer over the named bulkhead, starting with the default rejector. A configured
    /// queue is used once the layer is made [`queued`](BulkheadLayer::queued).
    ///
    /// # Errors
    /// There is none of that name.
    pub fn bulkhead(&self, name: &str) -> Result<BulkheadLayer, UnknownName> {
        let instances = lock(&self.instances);
        let handle = find(Pattern::Bulkhead, name, &instances.bulkheads)?;
        Ok(BulkheadLayer::from_handle(handle))
    }

    /// Returns a layer over the named retry, starting with the default classifier.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn retry(&self, name: &str) -> Result<RetryLayer, UnknownName> {
        let instances = lock(&self.instances);
        let handle = find(Pattern::Retry, name, &instances.retries)?;
        Ok(RetryLayer::from_handle(handle))
    }

    /// Returns a layer over the named time limit, starting with the default rejector.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn time_limiter(&self, name: &str) -> Result<TimeLimitLayer, UnknownName> {
        let instances = lock(&self.instances);
        let handle = find(Pattern::TimeLimiter, name, &instances.time_limiters)?;
        Ok(TimeLimitLayer::from_handle(handle))
    }
}

fn find<'a, H>(pattern: Pattern, name: &str, group: &'a Group<H>) -> Result<&'a H, UnknownName> {
    group.get(name).ok_or_else(|| {
        let known: Vec<&str> = group.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        UnknownName { pattern, name: name.to_owned(), known }
    })
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}
