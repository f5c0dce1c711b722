//! The parts of `buttress`, from their handles.

use std::fmt::Display;
use std::hash::Hash;

use buttress::registry::{Pattern, Registry};
use buttress::{
    bulkhead, circuit_breaker, fallback, gateway, idempotency, rate_limit, retry, sidecar,
    time_limit,
};

use super::board::StatusBoard;
use super::row::{Operated, Row};

pub(super) const CIRCUIT_BREAKERS: &str = "Circuits";
pub(super) const BULKHEADS: &str = "Bulkheads";
pub(super) const RATE_LIMITS: &str = "Rate limits";
pub(super) const RETRIES: &str = "Retries";
pub(super) const TIME_LIMITS: &str = "Time limits";

/// A part that a page with buttons can change.
trait Operable: Clone + Send + Sync + 'static {
    /// The row of this part.
    fn row(self, name: String) -> Row;
}

macro_rules! operable {
    ($($module:ident: $Operated:ident in $SECTION:ident,)*) => {$(
        impl Operable for $module::Handle {
            fn row(self, name: String) -> Row {
                Row::read($SECTION, name, Operated::$Operated(self.clone()), || self.stats())
            }
        }
    )*};
}

operable! {
    circuit_breaker: CircuitBreaker in CIRCUIT_BREAKERS,
    bulkhead: Bulkhead in BULKHEADS,
    rate_limit: RateLimit in RATE_LIMITS,
    retry: Retry in RETRIES,
    time_limit: TimeLimit in TIME_LIMITS,
}

macro_rules! keyed {
    ($($(#[$doc:meta])+ $show:ident: $module:ident in $section:literal,)+) => {
        impl StatusBoard {$(
            $(#[$doc])+
            pub fn $show<K>(self, name: impl Into<String>, handle: $module::KeyedHandle<K>) -> Self
            where
                K: Hash + Eq + Clone + Send + Sync + 'static,
            {
                self.numbers($section, name, move || handle.stats())
            }
        )+}
    };
}

keyed! {
    /// Shows how many keys a keyed circuit breaker holds and refuses. It does not show the keys: a client may
    /// have chosen them. [`circuit_breaker_keys`](Self::circuit_breaker_keys) shows keys.
    keyed_circuit_breaker: circuit_breaker in "Circuits by key",

    /// Shows how many keys a keyed bulkhead holds and refuses. It does not show the keys.
    keyed_bulkhead: bulkhead in "Bulkheads by key",
}

impl StatusBoard {
    fn operable(self, name: String, handle: impl Operable) -> Self {
        self.source(move |rows| rows.push(handle.clone().row(name.clone())))
    }

    /// Shows a circuit. A page with buttons can force it open, let every call pass, and reset it.
    pub fn circuit_breaker(self, name: impl Into<String>, handle: circuit_breaker::Handle) -> Self {
        self.operable(name.into(), handle)
    }

    /// Shows a bulkhead. A page with buttons can change its limit.
    pub fn bulkhead(self, name: impl Into<String>, handle: bulkhead::Handle) -> Self {
        self.operable(name.into(), handle)
    }

    /// Shows a rate limiter. A page with buttons can change its size and its rate.
    pub fn rate_limit(self, name: impl Into<String>, handle: rate_limit::Handle) -> Self {
        self.operable(name.into(), handle)
    }

    /// Shows a retry. A page with buttons can change the number of attempts.
    pub fn retry(self, name: impl Into<String>, handle: retry::Handle) -> Self {
        self.operable(name.into(), handle)
    }

    /// Shows a time limit. A page with buttons can change it.
    pub fn time_limit(self, name: impl Into<String>, handle: time_limit::Handle) -> Self {
        self.operable(name.into(), handle)
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
            rows.push(handle.circuit_breaker().clone().row(name.clone()));
            rows.push(handle.retry().clone().row(name.clone()));
            rows.push(handle.time_limit().clone().row(name.clone()));
            if let Some(limiter) = handle.rate_limit() {
                rows.push(limiter.clone().row(name.clone()));
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
                    rows.push(limiter.clone().row(name.to_owned()));
                }
                if let Some(limit) = handle.time_limit(name) {
                    rows.push(limit.clone().row(name.to_owned()));
                }
            }
        })
    }

    /// Shows the circuits of the keys that `keys` returns, one row per key that the layer holds. A page with
    /// buttons can force each of them.
    ///
    /// Every reader of the page sees these keys. Return keys that the application knows, for example its endpoints.
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
                    rows.push(circuit.row(format!("{name}: {key}")));
                }
            }
        })
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
            let mut show = |pattern, row: &dyn Fn(&str) -> Option<Row>| {
                let names = registry.names(pattern);
                rows.extend(names.iter().filter_map(|name| row(name.as_str())));
            };
            macro_rules! show {
                ($($Pattern:ident by $find:ident,)*) => {$(
                    show(Pattern::$Pattern, &|name| {
                        Some(registry.$find(name).ok()?.handle().row(name.to_owned()))
                    });
                )*};
            }
            show! {
                CircuitBreaker by circuit_breaker,
                Bulkhead by bulkhead,
                RateLimiter by rate_limiter,
                Retry by retry,
                TimeLimiter by time_limiter,
            }
        })
    }
}
