#![doc = include_str!("../guide/registry.md")]

mod document;
mod instances;

use std::fmt;
use std::sync::Arc;

pub use document::Document;
use instances::{Group, Instances, Setup};

use crate::balance;
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
use crate::vocabulary::words::words;

/// A pattern that a [`Registry`] builds, by its name in documents.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Pattern {
    /// `balance`
    Balance,
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

words! {
    /// Returns the name of the pattern in documents.
    Pattern {
        Balance => "balance", Bulkhead => "bulkhead", CircuitBreaker => "circuit-breaker",
        RateLimiter => "rate-limiter", Retry => "retry", TimeLimiter => "time-limiter",
    }
}

/// The error of a name that the registry does not have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no {pattern} is named \"{name}\"; there are: {known}")]
pub struct UnknownName {
    pattern: Pattern,
    name: String,
    known: String,
}

/// The changes that [`Registry::apply`] made, sorted by pattern and name.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// New instances.
    pub created: Vec<(Pattern, Name)>,
    /// Existing instances that now have the document's values.
    pub updated: Vec<(Pattern, Name)>,
    /// Instances that the document does not mention. They keep their state and their last values,
    /// so that a mistake in a document cannot remove a limit.
    pub unmentioned: Vec<(Pattern, Name)>,
}

/// Named instances of the patterns, built from one document and changed by the next. Cheap to
/// clone.
///
/// All clones share the instances. The [module](self) explains documents.
#[derive(Clone)]
pub struct Registry {
    instances: Arc<Mutex<Instances>>,
}

impl Registry {
    /// Creates a registry with the instances of `document`.
    ///
    /// # Errors
    /// Returns an error that names the first value that is out of its bounds, with its path:
    /// `rate-limiter.payment-api.max-tokens`.
    pub fn new(document: &Document) -> Result<Self, InvalidConfig> {
        let registry = Self::empty();
        registry.apply(document)?;
        Ok(registry)
    }

    /// Creates a registry without instances.
    #[must_use]
    pub fn empty() -> Self {
        Self { instances: Arc::new(Mutex::new(Instances::default())) }
    }

    /// Sets the clock of instances created from now on. Default: tokio's clock.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        self.set_up(|setup| setup.clock = clock)
    }

    /// Sets the observer of instances created from now on. Default: none.
    #[must_use]
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        self.set_up(|setup| setup.observer = Some(Arc::new(observer)))
    }

    /// Sets whether instances created from now on count the calls that pass. Default: off.
    #[must_use]
    pub fn count_calls(self, count: bool) -> Self {
        self.set_up(|setup| setup.count_calls = count)
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        change(&mut lock(&self.instances).setup);
        self
    }

    /// Applies `document`: creates instances with new names, and gives existing instances the
    /// document's values. Their state stays.
    ///
    /// A document with any mistake changes nothing.
    ///
    /// # Errors
    /// Returns an error that names the first value that is out of its bounds or cannot change while an instance runs,
    /// with its path.
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

    /// Returns the rules of the named balancer, for [`Balance::with_rules`](balance::Balance::with_rules).
    ///
    /// # Errors
    /// Returns an error if no balancer has this name.
    pub fn balance(&self, name: &str) -> Result<balance::Rules, UnknownName> {
        self.layer(Pattern::Balance, name, |all| &all.balancers, balance::Rules::clone)
    }

    /// Returns a layer over the named rate limiter, starting with the default rejector and cost.
    ///
    /// # Errors
    /// Returns an error if no rate limiter has this name.
    pub fn rate_limiter(&self, name: &str) -> Result<RateLimitLayer, UnknownName> {
        self.layer(
            Pattern::RateLimiter,
            name,
            |all| &all.rate_limiters,
            RateLimitLayer::from_handle,
        )
    }

    /// Returns a layer over the named circuit breaker, starting with the default classifier and
    /// rejector.
    ///
    /// # Errors
    /// Returns an error if no circuit breaker has this name.
    pub fn circuit_breaker(&self, name: &str) -> Result<CircuitBreakerLayer, UnknownName> {
        self.layer(
            Pattern::CircuitBreaker,
            name,
            |all| &all.circuit_breakers,
            CircuitBreakerLayer::from_handle,
        )
    }

    /// Returns a layer over the named bulkhead, starting with the default rejector. A configured
    /// queue takes effect when the layer is made [`queued`](BulkheadLayer::queued).
    ///
    /// # Errors
    /// Returns an error if no bulkhead has this name.
    pub fn bulkhead(&self, name: &str) -> Result<BulkheadLayer, UnknownName> {
        self.layer(Pattern::Bulkhead, name, |all| &all.bulkheads, BulkheadLayer::from_handle)
    }

    /// Returns a layer over the named retry, starting with the default classifier.
    ///
    /// # Errors
    /// Returns an error if no retry has this name.
    pub fn retry(&self, name: &str) -> Result<RetryLayer, UnknownName> {
        self.layer(Pattern::Retry, name, |all| &all.retries, RetryLayer::from_handle)
    }

    /// Returns a layer over the named time limit, starting with the default rejector.
    ///
    /// # Errors
    /// Returns an error if no time limit has this name.
    pub fn time_limiter(&self, name: &str) -> Result<TimeLimitLayer, UnknownName> {
        self.layer(
            Pattern::TimeLimiter,
            name,
            |all| &all.time_limiters,
            TimeLimitLayer::from_handle,
        )
    }

    /// Returns the layer that `over` makes of the named instance.
    fn layer<H, L>(
        &self,
        pattern: Pattern,
        name: &str,
        group: impl FnOnce(&Instances) -> &Group<H>,
        over: impl FnOnce(&H) -> L,
    ) -> Result<L, UnknownName> {
        let instances = lock(&self.instances);
        let group = group(&instances);
        group.get(name).map(over).ok_or_else(|| {
            let known: Vec<&str> = group.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            UnknownName { pattern, name: name.to_owned(), known }
        })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}
