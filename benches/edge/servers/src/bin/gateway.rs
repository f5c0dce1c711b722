//! The gateway of buttress-edge. The third argument says what it does besides forwarding.

use std::time::Duration;

use buttress::rate_limit::{KeyedRateLimitLayer, RateLimitLayer};
use buttress::{InvalidConfig, circuit_breaker, rate_limit, retry};
use buttress_edge::{ApiKey, ApiKeys, ClientKey, Config, Proxy, Route, Upstream, serve};
use buttress_http::client_key::AddressKeys;
use buttress_http::context::{ContextLayer, Trust};
use servers::{Error, addresses, listen, run};
use tower::Layer;

/// The key that the load sends.
const KEY: &str = "key-of-ann-0123456789abcdef";
const SECOND: Duration = Duration::from_secs(1);

fn main() -> Result<(), Error> {
    let (address, backends) = addresses()?;
    let what = std::env::args().nth(3).ok_or("no third argument")?;
    run(async move {
        let upstream = Upstream::fixed(backends.iter().map(|backend| format!("http://{backend}")))?;
        let routes = match &*what {
            "full" => vec![full(upstream)?],
            count => routes(count.parse()?, &upstream),
        };
        let gateway = Proxy::new(Config::new().pool_size(64), routes)?;
        // The context of each request: correlation, trace, deadline.
        let gateway = ContextLayer::server(Trust::None).layer(gateway);
        serve(listen(address)?, gateway).max_per_address(20_000).max_connections(20_000).await;
        Ok(())
    })
}

/// Routes by prefix, and the last one for everything else. The load goes to the route in the middle.
fn routes(count: usize, upstream: &Upstream) -> Vec<Route> {
    let middle = count / 2;
    let routes = (0..count).map(|n| {
        let prefix = if n == middle { "/api/orders".to_owned() } else { format!("/api/r{n}") };
        Route::new(format!("r{n}")).prefix(prefix).to(upstream.clone()).time_limit(10 * SECOND)
    });
    routes.map(Route::public).collect()
}

/// A route with every limit. None of them refuses a request of the load.
fn full(upstream: Upstream) -> Result<Route, InvalidConfig> {
    let plenty = rate_limit::Config::new().refill(10_000_000, SECOND).max_tokens(10_000_000);
    let keys = AddressKeys::new();
    let per_client = KeyedRateLimitLayer::new(plenty.clone(), 10_000, ClientKey::clone)?;
    let circuit = circuit_breaker::CircuitBreakerLayer::new(circuit_breaker::Config::new())?;
    Ok(Route::new("orders")
        .prefix("/api/orders")
        .to(upstream)
        .admit(ApiKeys::new("x-api-key", [ApiKey::new(KEY, "ann")?])?)
        .per_client(per_client.handle(), keys)
        .rate_limit(RateLimitLayer::new(plenty)?.handle())
        .circuit_breaker(circuit.handle())
        .retry(retry::Config::new().attempts(2))
        .time_limit(10 * SECOND))
}
