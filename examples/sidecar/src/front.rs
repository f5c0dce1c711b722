//! [`Front`]: the proxy in front of the service, and the handles of its limits.

use buttress::telemetry::Sampler;
use buttress::{InvalidConfig, bulkhead, circuit_breaker, rate_limit};
use buttress_edge::{Config, Proxy, Route, RouteStats, Upstream};
use buttress_http::context::Trust;
use http::Uri;

use crate::limits::Limits;

/// The name of the route, and of all limits.
const SERVICE: &str = "service";

/// The proxy and its handles. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Front {
    pub proxy: Proxy,
    pub circuit: circuit_breaker::Handle,
    bulkhead: Option<bulkhead::Handle>,
    rate: Option<rate_limit::Handle>,
}

impl Front {
    pub(crate) fn new(to: &str, limits: Limits, trust: Trust) -> Result<Self, InvalidConfig> {
        let Limits { rate_limiter, bulkhead, circuit_breaker, retry, time_limiter } = limits;
        let circuit = circuit_breaker.name(SERVICE).build()?.handle();
        let time = time_limiter.build()?.handle().stats().limit;
        let rate = rate_limiter.map(|config| config.name(SERVICE).build()).transpose()?;
        let rate = rate.map(|layer| layer.handle());
        let bulkhead = bulkhead.map(|config| config.name(SERVICE).build()).transpose()?;
        let bulkhead = bulkhead.map(|layer| layer.handle());
        let mut route = Route::new(SERVICE)
            .to(Upstream::fixed([to])?)
            .public()
            .circuit_breaker(circuit.clone())
            .retry(retry.name(SERVICE))
            .time_limit(time);
        if let Some(rate) = &rate {
            route = route.rate_limit(rate.clone());
        }
        if let Some(bulkhead) = &bulkhead {
            route = route.max_concurrent(bulkhead.clone());
        }
        // Clients of the sidecar are the callers of the service: it sees their credentials.
        let route = route.forward_credentials();
        let proxy = Proxy::new(Config::new().name("sidecar").trust(trust), [route])?;
        Ok(Self { proxy, circuit, bulkhead, rate })
    }

    /// The numbers of the proxy.
    pub(crate) fn stats(&self) -> RouteStats {
        self.proxy.stats().first().map(|(_, stats)| *stats).unwrap_or_default()
    }

    /// Gives the limits to the sampler of `/metrics`.
    pub(crate) fn watch(&self, sampler: &Sampler) {
        sampler.watch(self.circuit.clone());
        if let Some(bulkhead) = &self.bulkhead {
            sampler.watch(bulkhead.clone());
        }
        if let Some(rate) = &self.rate {
            sampler.watch(rate.clone());
        }
    }
}

/// Returns the host and port of a URL, for the probe.
pub(crate) fn address(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    Some(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_connects_to_host_and_port_of_the_url() {
        for (url, expected) in [
            ("http://127.0.0.1:8001", "127.0.0.1:8001"),
            ("http://localhost/v1", "localhost:80"),
            ("http://[::1]:8001", "[::1]:8001"),
        ] {
            assert_eq!(address(url).as_deref(), Some(expected));
        }
        assert_eq!(address("/v1"), None);
    }

    #[test]
    fn the_defaults_make_a_proxy() {
        let front = Front::new("http://127.0.0.1:8001", Limits::default(), Trust::None).unwrap();
        assert_eq!(front.stats(), RouteStats::default());
    }
}
