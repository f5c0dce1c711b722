//! The section of a route. `read` in `mod.rs` gives an error the path of its value.

use buttress::bulkhead::BulkheadLayer;
use buttress::circuit_breaker::CircuitBreakerLayer;
use buttress::rate_limit::{KeyedRateLimitLayer, RateLimitLayer};
use buttress::time_limit::TimeLimitLayer;
use buttress::{InvalidConfig, Name, bulkhead, circuit_breaker, rate_limit, retry, time_limit};
use buttress_http::client_key::AddressKeys;
use http::Method;

use super::backends::Backends;
use super::before::Before;
use super::sides::{Shadow, Split};
use crate::Config;
use crate::admission::Admits;
use crate::caller::ClientKey;
use crate::route::{LocalService, Route};

/// The keys of a route.
#[derive(Default, serde::Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table with the keys of a route"
)]
pub(super) struct Section {
    host: Option<String>,
    prefix: Option<String>,
    methods: Option<Vec<String>>,
    strip: Option<String>,
    upstream: Option<Backends>,
    pub service: Option<String>,
    split: Option<Split>,
    shadow: Option<Shadow>,
    public: bool,
    pub admit: Option<String>,
    forward_identity: Option<String>,
    forward_credentials: bool,
    allow_encoded_slash: bool,
    max_request_body: Option<u64>,
    rate_limiter: Option<rate_limit::Config>,
    per_client: Option<PerClient>,
    bulkhead: Option<bulkhead::Config>,
    circuit_breaker: Option<circuit_breaker::Config>,
    time_limiter: Option<time_limit::Config>,
    retry: Option<retry::Config>,
    replay_buffer: Option<usize>,
    backend_honours_idempotency_keys: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PerClient {
    rate_limiter: rate_limit::Config,
    #[serde(default = "clients")]
    max_clients: usize,
    #[serde(default)]
    trust: Vec<String>,
}

fn clients() -> usize {
    10_000
}

impl Section {
    /// Builds the route. An error has its path in the section.
    pub(super) fn route(
        self,
        name: &str,
        admit: Option<Admits>,
        service: Option<LocalService>,
        before: Before<'_>,
        config: &Config,
    ) -> Result<Route, InvalidConfig> {
        let within = |path: &'static str| {
            move |error: InvalidConfig| {
                let field = format!("{path}.{}", error.field());
                InvalidConfig::new(field, error.value(), error.bound())
            }
        };
        let method = |method: &String| {
            let bound = "a method of HTTP";
            method
                .parse::<Method>()
                .map_err(|_| InvalidConfig::new("methods", format!("{method:?}"), bound))
        };
        let methods = self.methods.as_ref().map(|all| all.iter().map(method).collect());
        let methods: Option<Vec<Method>> = methods.transpose()?;
        let stated = [
            ("admit", self.public, admit.is_some(), ["`public`", "`admit`"]),
            ("upstream", self.upstream.is_some(), service.is_some(), ["`upstream`", "`service`"]),
        ];
        for (key, one, other, [first, second]) in stated {
            if one == other {
                let value = if one { format!("{first} and {second}") } else { "nothing".into() };
                let bound = format!("stated: set either {first} or {second}");
                return Err(InvalidConfig::new(key, value, bound));
            }
        }
        let (label, clock) = (Name::from(name.to_owned()), &config.clock);
        let mut route = Route::new(name);
        if let Some(methods) = methods {
            route = route.methods(methods);
        }
        route.host = self.host;
        route.strip = self.strip;
        route.identity = self.forward_identity;
        route.public = self.public;
        route.admit = admit;
        route.service = service;
        route.forward_credentials = self.forward_credentials;
        route.encoded_slash = self.allow_encoded_slash;
        route.max_request_body = self.max_request_body;
        route.honours_keys = self.backend_honours_idempotency_keys;
        if let Some(prefix) = self.prefix {
            route = route.prefix(prefix);
        }
        if let Some(bytes) = self.replay_buffer {
            route = route.replay_buffer(bytes);
        }
        if let Some(backends) = self.upstream {
            let kept = before.same(&["/upstream"]).and_then(|route| route.upstream.clone());
            route = route.to(kept.map_or_else(|| backends.upstream(label, config), Ok)?);
        }
        if let Some(split) = self.split {
            route = split.add_to(route, before, config)?;
        }
        if let Some(shadow) = self.shadow {
            route = shadow.add_to(route, before, config)?;
        }
        if let Some(config) = self.rate_limiter {
            let config = config.name(label).clock(clock.clone());
            let kept = before.same(&["/rate-limiter"]).and_then(|it| it.limits.rate.clone());
            let new = || RateLimitLayer::new(config).map(|layer| layer.handle());
            let limiter = kept.map_or_else(new, Ok).map_err(within("rate-limiter"))?;
            route = route.rate_limit(limiter);
        }
        if let Some(PerClient { rate_limiter, max_clients, trust }) = self.per_client {
            let keys = AddressKeys::new().trust_networks(trust).map_err(|error| {
                InvalidConfig::new("per-client.trust", error.value(), error.bound())
            })?;
            let config = rate_limiter.name(label).clock(clock.clone());
            let same = before.same(&["/per-client/rate-limiter", "/per-client/max-clients"]);
            let kept = same.and_then(|route| route.limits.per_client.as_ref());
            let new = || {
                let layer = KeyedRateLimitLayer::new(config, max_clients, ClientKey::clone);
                layer.map(|layer| layer.handle())
            };
            let limiter = kept.map(|(limiter, _)| limiter.clone()).map_or_else(new, Ok);
            let limiter = limiter.map_err(|error| match error.field() {
                "max-keys" => {
                    InvalidConfig::new("per-client.max-clients", error.value(), error.bound())
                }
                _ => within("per-client.rate-limiter")(error),
            })?;
            route = route.per_client(limiter, keys);
        }
        if let Some(config) = self.bulkhead {
            let config = config.name(label).clock(clock.clone());
            let kept = before.same(&["/bulkhead"]).and_then(|it| it.limits.concurrent.clone());
            let new = || BulkheadLayer::new(config).map(|layer| layer.handle());
            let bulkhead = kept.map_or_else(new, Ok).map_err(within("bulkhead"))?;
            route = route.max_concurrent(bulkhead);
        }
        if let Some(config) = self.circuit_breaker {
            let config = config.name(label).clock(clock.clone());
            // It judges the backends: others have a new one.
            let same = before.same(&["/circuit-breaker", "/upstream", "/split/upstream"]);
            let same = same.filter(|_| before.same_service);
            let kept = same.and_then(|route| route.limits.circuit.clone());
            let new = || CircuitBreakerLayer::new(config).map(|layer| layer.handle());
            let circuit = kept.map_or_else(new, Ok).map_err(within("circuit-breaker"))?;
            route = route.circuit_breaker(circuit);
        }
        if let Some(config) = self.time_limiter {
            let layer = TimeLimitLayer::new(config).map_err(within("time-limiter"))?;
            route = route.time_limit(layer.handle().stats().limit);
        }
        if let Some(config) = self.retry {
            let attempts = before.section.pointer("/retry/attempts");
            let config = config.name(label).clock(clock.clone());
            route = route.retry(if attempts.is_some() { config } else { config.attempts(2) });
            // Its budget.
            let kept = before.same(&["/retry"]).and_then(|route| route.retry.clone());
            route.retry = kept.or(route.retry);
        }
        Ok(route)
    }
}
