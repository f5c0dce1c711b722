//! The gateway: five routes, their limits, and a listener.

use std::net::SocketAddr;
use std::time::Duration;

use buttress::bulkhead::BulkheadLayer;
use buttress::circuit_breaker::CircuitBreakerLayer;
use buttress::rate_limit::KeyedRateLimitLayer;
use buttress::retry::Backoff;
use buttress::{Clock, InvalidConfig, bulkhead, circuit_breaker, rate_limit, retry};
use buttress_edge::{ClientKey, Config, Proxy, Route, RouteStats, Served, Upstream, serve};
use buttress_http::client_key::AddressKeys;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};
use tower::BoxError;

use crate::admission::by_key;
use crate::services::Services;

/// The failures in a row that open the circuit of prices.
pub(crate) const FAILURES: u32 = 5;
/// The time for which the circuit stays open.
pub(crate) const OPEN_FOR: Duration = Duration::from_secs(10);
/// The reports of a client per minute.
pub(crate) const REPORTS: u32 = 20;
/// The exports that run concurrently.
pub(crate) const EXPORTS: u32 = 4;

/// The limits of the routes. Their state belongs to one gateway.
pub(crate) struct Limits {
    circuit: circuit_breaker::Handle,
    reports: rate_limit::KeyedHandle<ClientKey>,
    exports: bulkhead::Handle,
}

impl Limits {
    pub(crate) fn new(clock: &Clock) -> Result<Self, InvalidConfig> {
        let circuit = circuit_breaker::Config::new()
            .name("prices")
            .consecutive_failures(FAILURES)
            .open_for(OPEN_FOR)
            .clock(clock.clone());
        let reports = rate_limit::Config::new()
            .name("reports")
            .refill(REPORTS, Duration::from_secs(60))
            .max_tokens(REPORTS)
            .clock(clock.clone());
        let exports = bulkhead::Config::new().name("exports").max_concurrent(EXPORTS);
        Ok(Self {
            circuit: CircuitBreakerLayer::new(circuit)?.handle(),
            reports: KeyedRateLimitLayer::new(reports, 10_000, ClientKey::clone)?.handle(),
            exports: BulkheadLayer::new(exports)?.handle(),
        })
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    pub address: SocketAddr,
    pub proxy: Proxy,
    pub circuit: circuit_breaker::Handle,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Served>,
}

impl Gateway {
    pub(crate) async fn start(services: &Services, limits: &Limits) -> Result<Self, BoxError> {
        let proxy = Proxy::new(Config::new().name("shop"), routes(services, limits)?)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let serve = serve(listener, proxy.clone()).drain(Duration::from_secs(10)).until(async {
            // A dropped sender begins the drain too.
            drop(stopped.await);
        });
        let served = tokio::spawn(serve.into_future());
        Ok(Self { address, proxy, circuit: limits.circuit.clone(), stop, served })
    }

    /// Begins the drain. The result is there when the last connection has ended.
    pub(crate) fn drain(self) -> JoinHandle<Served> {
        // The error of a listener that has ended already is not an error here.
        let _ = self.stop.send(());
        self.served
    }

    pub(crate) async fn stop(self) -> Result<Served, JoinError> {
        self.drain().await
    }

    /// The numbers of a route.
    pub(crate) fn stats(&self, route: &str) -> RouteStats {
        stats(&self.proxy, route)
    }
}

/// Returns the numbers of a route of `proxy`.
pub(crate) fn stats(proxy: &Proxy, route: &str) -> RouteStats {
    let all = proxy.stats();
    all.into_iter().find(|(name, _)| name == route).map(|(_, stats)| stats).unwrap_or_default()
}

fn routes(services: &Services, limits: &Limits) -> Result<[Route; 5], InvalidConfig> {
    let url = |address: SocketAddr| format!("http://{address}");
    let orders = Upstream::fixed(services.orders.instances.iter().map(|one| url(one.address)))?;
    let prices = Upstream::fixed(services.prices.instances.iter().map(|one| url(one.address)))?;
    let admit = by_key()?;
    let route = |name: &str, upstream: &Upstream| {
        let prefix = format!("/api/{name}");
        Route::new(name).prefix(&prefix).strip(&prefix).to(upstream.clone())
    };
    Ok([
        route("orders", &orders)
            .admit(admit.clone())
            .forward_identity("x-user")
            .max_request_body(64 * 1024)
            .time_limit(Duration::from_secs(5)),
        route("prices", &prices).public().circuit_breaker(limits.circuit.clone()),
        route("reports", &orders)
            .admit(admit)
            .per_client(limits.reports.clone(), AddressKeys::new()),
        route("exports", &prices).public().max_concurrent(limits.exports.clone()),
        // No backoff: the attempts of a request go to different instances.
        route("stock", &orders)
            .public()
            .retry(retry::Config::new().attempts(2).backoff(Backoff::none())),
    ])
}
