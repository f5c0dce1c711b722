//! Other sites that sell through the shop, while it runs with `--serve`: a gateway, a sidecar, a limit per partner
//! and orders with a key. They are calls within the process, so that a dashboard has every pattern to show.

use std::time::Duration;

use buttress::gateway::{self, Gateway, Route};
use buttress::idempotency::{self, IdempotencyLayer, Key, MemoryStore};
use buttress::retry::Budget;
#[cfg(feature = "metrics")]
use buttress::telemetry::Sampler;
use buttress::{Clock, InvalidConfig, rate_limit, retry, sidecar};
use buttress_http::status::StatusBoard;
use tower::util::BoxCloneService;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};

type Backend = BoxCloneService<u32, u32, BoxError>;
type Extract = fn(&u32) -> Option<&str>;

/// The calls of partners, and the handles of the layers around them.
pub(crate) struct Partners {
    gateway: Gateway<u32, Backend, Extract>,
    orders: Backend,
    stock: Backend,
    routes: gateway::Handle,
    once: idempotency::Handle,
    per_partner: rate_limit::KeyedHandle<u32>,
    sidecar: sidecar::Handle,
}

/// A service that takes 5 ms, and fails for every seventh number.
fn backend() -> Backend {
    BoxCloneService::new(service_fn(async |number: u32| {
        Clock::default().sleep(Duration::from_millis(5)).await;
        if number % 7 == 0 { Err("the partner's stock is gone".into()) } else { Ok(number) }
    }))
}

/// Every tenth request asks for a route that there is not.
fn route_of(number: &u32) -> Option<&str> {
    Some(if number % 10 == 0 { "unknown" } else { "partners" })
}

impl Partners {
    pub(crate) fn new() -> Result<Self, BoxError> {
        let route = Route::new("partners")
            .backend(backend())
            .backend(backend())
            .time_limit(Duration::from_millis(200))
            .rate_limit(rate_limit::Config::new().max_tokens(50).refill(50, PERIOD));
        let extract = route_of as Extract;
        let gateway = Gateway::new("partner-gateway", Clock::default(), extract, [route])?;

        let config = idempotency::Config::new().name("partner-orders");
        // Every order comes twice.
        let key = |number: &u32| Key::new(&(number / 2).to_string());
        let once = IdempotencyLayer::new(config, MemoryStore::<u32>::default(), key)?;
        let config = rate_limit::Config::new().name("per-partner").max_tokens(2);
        let per_partner = rate_limit::KeyedRateLimitLayer::new(config, 3, |it: &u32| it % 5)?;
        let sidecar = sidecar()?;
        Ok(Self {
            routes: gateway.handle(),
            gateway,
            once: once.handle(),
            per_partner: per_partner.handle(),
            sidecar: sidecar.handle(),
            orders: BoxCloneService::new(
                ServiceBuilder::new().layer(per_partner).layer(once).service(backend()),
            ),
            stock: BoxCloneService::new(ServiceBuilder::new().layer(sidecar).service(backend())),
        })
    }

    /// Adds the layers to a status page.
    pub(crate) fn show(&self, status: StatusBoard) -> StatusBoard {
        status
            .gateway(self.routes.clone())
            .sidecar("partner-stock", self.sidecar.clone())
            .idempotency("partner-orders", self.once.clone())
            .keyed_rate_limit("per-partner", self.per_partner.clone())
    }

    /// Gives the layers to a sampler.
    #[cfg(feature = "metrics")]
    pub(crate) fn watch(&self, sampler: &Sampler) {
        sampler.watch(self.routes.clone());
        sampler.watch(self.once.clone());
        sampler.watch(self.per_partner.clone());
        sampler.watch(self.sidecar.clone());
    }

    /// Calls twenty times per second, forever.
    pub(crate) async fn trade(mut self) {
        let clock = Clock::default();
        for number in 1.. {
            // How the calls end is in the numbers of the layers.
            let _ended = self.orders.clone().oneshot(number).await;
            let _ended = self.stock.clone().oneshot(number).await;
            let _ended = (&mut self.gateway).oneshot(number).await;
            clock.sleep(PERIOD / 20).await;
        }
    }
}

const PERIOD: Duration = Duration::from_secs(1);

fn sidecar() -> Result<sidecar::SidecarLayer, InvalidConfig> {
    let budget = Budget::new(0.2, 10)?;
    sidecar::Config::new()
        .name("partner-stock")
        .retry(retry::Config::new().attempts(2).budget(budget))
        .time_limit(Duration::from_millis(100))
        .build()
}
