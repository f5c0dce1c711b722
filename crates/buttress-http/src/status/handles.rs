//! The parts of `buttress`, from their handles.

use std::fmt::Display;
use std::hash::Hash;

use buttress::registry::{Pattern, Registry};
use buttress::{
    bulkhead, circuit_breaker, fallback, gateway, idempotency, rate_limit, retry, sidecar,
    time_limit,
};

use super::board::Status;
use super::row::{Operated, Row};

pub(super) const CIRCUIT_BREAKERS: &str = "Circuits";
pub(super) const BULKHEADS: &str = "Bulkheads";
pub(super) const RATE_LIMITS: &str = "Rate limits";
pub(super) const RETRIES: &str = "Retries";
pub(super) const TIME_LIMITS: &str = "Time limits";

fn circuit_breaker_row(name: String, handle: circuit_breaker::Handle) -> Row {
    let operated = Operated::CircuitBreaker(handle.clone());
    Row::read(CIRCUIT_BREAKERS, name, operated, || handle.stats())
}

fn bulkhead_row(name: String, handle: bulkhead::Handle) -> Row {
    Row::read(BULKHEADS, name, Operated::Bulkhead(handle.clone()), || handle.stats())
}

fn rate_limit_row(name: String, handle: rate_limit::Handle) -> Row {
    Row::read(RATE_LIMITS, name, Operated::RateLimit(handle.clone()), || handle.stats())
}

fn retry_row(name: String, handle: retry::Handle) -> Row {
    Row::read(RETRIES, name, Operated::Retry(handle.clone()), || handle.stats())
}

fn time_limit_row(name: String, handle: time_limit::Handle) -> Row {
    Row::read(TIME_LIMITS, name, Operated::TimeLimit(handle.clone()), || handle.stats())
}

impl Status {
    /// Shows a circuit. A page with buttons can force it open, let every call pass, and reset it.
    pub fn circuit_breaker(self, name: impl Into<String>, handle: circuit_breaker::Handle) -> Self {
        let name = name.into();
        self.source(move |rows| rows.push(circuit_breaker_row(name.clone(), handle.clone())))
    }

    /// Shows a bulkhead. A page with buttons can change its limit.
    pub fn bulkhead(self, name: impl Into<String>, handle: bulkhead::Handle) -> Self {
        let name = name.into();
        self.source(move |rows| rows.push(bulkhead_row(name.clone(), handle.clone())))
    }

    /// Shows a rate limiter. A page with buttons can change its size and its rate.
    pub fn rate_limit(self, name: impl Into<String>, handle: rate_limit::Handle) -> Self {
        let name = name.into();
        self.source(move |rows| rows.push(rate_limit_row(name.clone(), handle.clone())))
    }

    /// Shows a retry. A page with buttons can change the number of attempts.
    pub fn retry(self, name: impl Into<String>, handle: retry::Handle) -> Self {
        let name = name.into();
        self.source(move |rows| rows.push(retry_row(name.clone(), handle.clone())))
    }

    /// Shows a time limit. A page with buttons can change it.
    pub fn time_limit(self, name: impl Into<String>, handle: time_limit::Handle) -> Self {
        let name = name.into();
        self.source(move |rows| rows.push(time_limit_row(name.clone(), handle.clone())))
    }

    /// Shows a fallback.
    pub fn fallback(self, name: impl Into<String>, handle: fallback::Handle) -> Self {
        self.numbers("Fallbacks", name, move || handle.stats())
    }

    /// Shows an idempotency layer.
    pub fn idempotency(self, name: impl Into<String>, handle: idempotency::Handle) -> Self {
        self.numbers("Idempotency", name, move || handle.stats())
    }

    /// Shows the requests of a sidecar, and its circuit, retry, time limit and rate limiter, which a page with
    /// buttons can change.
    pub fn sidecar(self, name: impl Into<String>, handle: sidecar::Handle) -> Self {
        let name = name.into();
        self.source(move |rows| {
            let numbers = || handle.stats();
            rows.push(Row::read("Sidecars", name.clone(), Operated::Nothing, numbers));
            rows.push(circuit_breaker_row(name.clone(), handle.circuit_breaker().clone()));
            rows.push(retry_row(name.clone(), handle.retry().clone()));
            rows.push(time_limit_row(name.clone(), handle.time_limit().clone()));
            if let Some(limiter) = handle.rate_limit() {
                rows.push(rate_limit_row(name.clone(), limiter.clone()));
            }
        })
    }

    /// Shows the routes of a gateway, and their rate limiters and time limits, which a page with buttons can
    /// change.
    pub fn gateway(self, handle: gateway::Handle) -> Self {
        self.source(move |rows| {
            for stats in handle.stats().routes {
                let name = stats.name.as_str();
                rows.push(Row::read("Routes", name, Operated::Nothing, || &stats));
                if let Some(limiter) = handle.rate_limit(name) {
                    rows.push(rate_limit_row(name.to_owned(), limiter.clone()));
                }
                if let Some(limit) = handle.time_limit(name) {
                    rows.push(time_limit_row(name.to_owned(), limit.clone()));
                }
            }
        })
    }

    /// Shows how many keys a keyed circuit breaker holds and refuses. It does not show the keys: a client may
    /// have chosen them. [`circuit_breaker_keys`](Self::circuit_breaker_keys) shows keys.
    pub fn keyed_circuit_breaker<K>(
        self,
        name: impl Into<String>,
        handle: circuit_breaker::KeyedHandle<K>,
    ) -> Self
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
    {
        self.numbers("Circuits by key", name, move || handle.stats())
    }

    /// Shows the circuits of the keys that `keys` returns, one row per key that the layer holds. A page with
    /// buttons can force each of them.
    ///
    /// Everybody who may see the page sees these keys. Return keys that the application knows, for example its
    /// endpoints.
    pub fn circuit_breaker_keys<K>(
        self,
        name: impl Into<String>,
        handle: circuit_breaker::KeyedHandle<K>,
        keys: impl Fn() -> Vec<K> + Send + Sync + 'static,
    ) -> Self
    where
        K: Display + Hash + Eq + Clone + Send + Sync + 'static,
    {
        let name = name.into();
        self.source(move |rows| {
            for key in keys() {
                if let Some(circuit) = handle.get(&key) {
                    rows.push(circuit_breaker_row(format!("{name}: {key}"), circuit));
                }
            }
        })
    }

    /// Shows how many keys a keyed bulkhead holds and refuses. It does not show the keys.
    pub fn keyed_bulkhead<K>(
        self,
        name: impl Into<String>,
        handle: bulkhead::KeyedHandle<K>,
    ) -> Self
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
    {
        self.numbers("Bulkheads by key", name, move || handle.stats())
    }

    /// Shows how many keys a keyed rate limiter holds and refuses. It does not show the keys.
    pub fn keyed_rate_limit<K, P>(
        self,
        name: impl Into<String>,
        handle: rate_limit::KeyedHandle<K, P>,
    ) -> Self
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        P: rate_limit::Rules<K> + Send + Sync + 'static,
        rate_limit::KeyedHandle<K, P>: Send + Sync,
    {
        self.numbers("Rate limits by key", name, move || handle.stats())
    }

    /// Shows every instance of a registry, also those that a later document adds.
    pub fn registry(self, registry: Registry) -> Self {
        self.source(move |rows| {
            for name in registry.names(Pattern::CircuitBreaker) {
                if let Ok(layer) = registry.circuit_breaker(name.as_str()) {
                    rows.push(circuit_breaker_row(name.to_string(), layer.handle()));
                }
            }
            for name in registry.names(Pattern::Bulkhead) {
                if let Ok(layer) = registry.bulkhead(name.as_str()) {
                    rows.push(bulkhead_row(name.to_string(), layer.handle()));
                }
            }
            for name in registry.names(Pattern::RateLimiter) {
                if let Ok(layer) = registry.rate_limiter(name.as_str()) {
                    rows.push(rate_limit_row(name.to_string(), layer.handle()));
                }
            }
            for name in registry.names(Pattern::Retry) {
                if let Ok(layer) = registry.retry(name.as_str()) {
                    rows.push(retry_row(name.to_string(), layer.handle()));
                }
            }
            for name in registry.names(Pattern::TimeLimiter) {
                if let Ok(layer) = registry.time_limiter(name.as_str()) {
                    rows.push(time_limit_row(name.to_string(), layer.handle()));
                }
            }
        })
    }
}
