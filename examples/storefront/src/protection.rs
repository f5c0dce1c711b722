//! All layers of buttress in the shop.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{Method, Request};
use buttress::fallback::{self, FallbackLayer};
use buttress::registry::{Document, Registry};
use buttress::{CircuitState, Event, Name};
use buttress_http::{
    ByStatus, HttpLayerExt, IdempotentRequests, RateLimitFieldsLayer, RetryableStatus,
};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, service_fn};

use crate::shop::{Clients, HttpClient, HttpRequest, Payment, Price, fetch};
use crate::since;
use crate::upstream::Upstreams;

/// A change of a circuit: time, name, old and new state.
pub(crate) type Change = (Duration, Name, CircuitState, CircuitState);

/// The fallbacks of the clients, by name.
pub(crate) type Fallbacks = Vec<(&'static str, fallback::Handle)>;

/// The named instances of `storefront.toml`, and the changes of their circuits.
#[derive(Clone)]
pub(crate) struct Protection {
    pub registry: Registry,
    changes: Arc<Mutex<Vec<Change>>>,
}

impl Protection {
    pub(crate) fn from_toml(text: &str, start: Instant) -> Result<Self, BoxError> {
        let document: Document = toml::from_str(text)?;
        let changes = Arc::new(Mutex::new(Vec::new()));
        let heard = changes.clone();
        let observer = move |layer: Name, event: &Event| {
            if let Event::CircuitChanged { from, to, .. } = event {
                let mut changes = heard.lock().unwrap_or_else(PoisonError::into_inner);
                changes.push((since(start), layer, *from, *to));
            }
        };
        let registry = Registry::empty().observer(observer).count_calls(true);
        registry.apply(&document)?;
        Ok(Self { registry, changes })
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Protects the routes of the shop. A route of axum cannot fail, so the layers answer refusals
    /// as responses.
    pub(crate) fn protect(&self, router: Router) -> Result<Router, BoxError> {
        let limiter = self.registry.rate_limiter("storefront")?;
        let bulkhead = self.registry.bulkhead("storefront")?;
        let router = router.layer(
            ServiceBuilder::new()
                .layer(RateLimitFieldsLayer::new(limiter.handle()))
                .layer(limiter.http())
                .layer(bulkhead.http()),
        );
        #[cfg(feature = "metrics")]
        let router = router.layer(
            buttress::telemetry::DurationLayer::new("storefront").classify(ByStatus::route()),
        );
        Ok(router)
    }

    /// Returns the clients, each behind a separate stack.
    pub(crate) fn clients(&self, upstreams: &Upstreams) -> Result<(Clients, Fallbacks), BoxError> {
        let [catalogue, pricing, payment] = addresses(upstreams);
        let registry = &self.registry;

        let catalogue_client: HttpClient = BoxCloneSyncService::new(
            ServiceBuilder::new()
                .layer(registry.circuit_breaker("catalogue")?.classify(ByStatus::client()))
                .layer(
                    registry
                        .retry("catalogue")?
                        .classify(RetryableStatus::client())
                        .clone_with(IdempotentRequests),
                )
                .layer(registry.time_limiter("catalogue")?)
                .service(hyper()),
        );
        let pricing_client: HttpClient = BoxCloneSyncService::new(
            ServiceBuilder::new()
                .layer(registry.circuit_breaker("pricing")?.classify(ByStatus::client()))
                .layer(
                    registry
                        .retry("pricing")?
                        .classify(RetryableStatus::client())
                        .clone_with(IdempotentRequests),
                )
                .layer(registry.time_limiter("pricing")?)
                .service(hyper()),
        );
        // Payment has no retry, because a charge is not idempotent.
        let payment_client: HttpClient = BoxCloneSyncService::new(
            ServiceBuilder::new()
                .layer(registry.circuit_breaker("payment")?.classify(ByStatus::client()))
                .layer(registry.bulkhead("payment")?)
                .layer(registry.time_limiter("payment")?)
                .service(hyper()),
        );

        let mut clients =
            over([catalogue, pricing, payment], [catalogue_client, pricing_client, payment_client]);
        // Without today's price the shop uses the printed price. Without payment the order is
        // charged later.
        let listed = FallbackLayer::value(Price::Listed(2000))
            .config(fallback::Config::new().name("pricing"));
        let pending =
            FallbackLayer::value(Payment::Pending).config(fallback::Config::new().name("payment"));
        let fallbacks = vec![("pricing", listed.handle()), ("payment", pending.handle())];
        clients.pricing =
            BoxCloneSyncService::new(ServiceBuilder::new().layer(listed).service(clients.pricing));
        clients.payment =
            BoxCloneSyncService::new(ServiceBuilder::new().layer(pending).service(clients.payment));
        Ok((clients, fallbacks))
    }
}

/// Returns the clients without layers.
pub(crate) fn bare_clients(upstreams: &Upstreams) -> Clients {
    let client = || BoxCloneSyncService::new(hyper());
    over(addresses(upstreams), [client(), client(), client()])
}

fn addresses(upstreams: &Upstreams) -> [SocketAddr; 3] {
    crate::upstream::SERVICES.map(|name| {
        let mut all = upstreams.all.iter();
        all.find(|upstream| upstream.name == name).map_or(([0, 0, 0, 0], 0).into(), |u| u.address)
    })
}

/// Returns a hyper client with its own pool.
fn hyper() -> impl tower::Service<
    HttpRequest,
    Response = http::Response<hyper::body::Incoming>,
    Error = BoxError,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<hyper::body::Bytes>>();
    ServiceBuilder::new().map_err(BoxError::from).service(client)
}

fn over(addresses: [SocketAddr; 3], clients: [HttpClient; 3]) -> Clients {
    let [catalogue, pricing, payment] = addresses;
    let [catalogue_client, pricing_client, payment_client] = clients;
    Clients {
        catalogue: BoxCloneSyncService::new(service_fn(move |item: u32| {
            let client = catalogue_client.clone();
            async move { fetch(client, request(Method::GET, catalogue, item)?).await.map(drop) }
        })),
        pricing: BoxCloneSyncService::new(service_fn(move |item: u32| {
            let client = pricing_client.clone();
            async move {
                let body = fetch(client, request(Method::GET, pricing, item)?).await?;
                Ok(Price::Current(std::str::from_utf8(&body)?.parse()?))
            }
        })),
        payment: BoxCloneSyncService::new(service_fn(move |item: u32| {
            let client = payment_client.clone();
            async move {
                fetch(client, request(Method::POST, payment, item)?).await?;
                Ok(Payment::Charged)
            }
        })),
    }
}

fn request(method: Method, address: SocketAddr, item: u32) -> Result<HttpRequest, http::Error> {
    let uri = format!("http://{address}/items/{item}");
    Request::builder().method(method).uri(uri).body(Full::default())
}
