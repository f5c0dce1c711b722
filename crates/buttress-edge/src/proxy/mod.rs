//! [`Proxy`]: the service that checks, routes and forwards requests.

mod handle;
mod local;
mod pipeline;
mod ready;
mod routes;
mod target;

pub use handle::{Handle, Replaced};
pub use ready::Ready;
use routes::Routes;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use buttress::InvalidConfig;
use bytes::Bytes;
use http::{Request, Response};
use tower::{BoxError, Service};

use crate::Body;
use crate::config::Config;
use crate::forward::{Connector, Forwarder};
use crate::headers::via;
use crate::numbers::RouteStats;
use crate::route::Route;

/// An HTTP gateway as a tower service: it routes requests to backends and streams their answers.
/// Cheap to clone; clones share routes and connections.
///
/// It never fails. A refusal, and the failure of a backend to answer, is a problem document with `Proxy-Status`, or a
/// gRPC status if the request is gRPC. The answer has no address and no text of a backend.
///
/// The address of the peer is the extension [`PeerAddr`](buttress_http::client_key::PeerAddr) of a request. Without it the proxy writes
/// no `X-Forwarded-For`.
///
/// A call reads the current [`Context`](buttress::context::Context), so call the proxy inside of the scope, as
/// [`Context::run`](buttress::context::Context::run) does.
///
/// # Cancel safety
/// Dropping the response's future or its body drops the request to the backend.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

struct Shared {
    /// The routes that requests find from now on.
    routes: RwLock<Arc<Routes>>,
    forwarder: Arc<Forwarder>,
    config: Config,
    via: via::Values,
    /// Requests that found no route.
    unrouted: AtomicU64,
    #[cfg(feature = "document")]
    applied: crate::document::Applied,
}

impl Proxy {
    /// Returns the numbers of each route, by name and in the order of the routes.
    #[must_use]
    pub fn stats(&self) -> Vec<(String, RouteStats)> {
        let routes = self.shared.routes();
        routes.list.iter().map(|route| (route.name.clone(), route.counters.stats())).collect()
    }

    /// Returns the number of requests that found no route: their host, path or method matched none, or was
    /// refused.
    #[must_use]
    pub fn unrouted(&self) -> u64 {
        self.shared.unrouted.load(Ordering::Relaxed)
    }

    /// Returns the handle that changes the routes while the proxy runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Creates a proxy.
    ///
    /// # Errors
    /// Returns an error if a route lacks backends or a statement of who is admitted, if two routes match the same
    /// requests with the same rank, or if a value is out of its bounds.
    pub fn new(
        config: Config,
        routes: impl IntoIterator<Item = Route>,
    ) -> Result<Self, InvalidConfig> {
        let connector = Connector::new(config.connect, config.clock.clone());
        Self::with_connector(config, routes, connector)
    }

    pub(crate) fn with_connector(
        config: Config,
        routes: impl IntoIterator<Item = Route>,
        connector: Connector,
    ) -> Result<Self, InvalidConfig> {
        config.check()?;
        let via = via::Values::new(&config.name).ok_or_else(|| {
            InvalidConfig::new(
                "name",
                format!("{:?}", config.name),
                "a token that starts with a letter",
            )
        })?;
        let routes = RwLock::new(Arc::new(Routes::new(routes)?));
        let forwarder = Arc::new(Forwarder::new(&config, connector));
        let unrouted = AtomicU64::new(0);
        let shared = Shared {
            routes,
            forwarder,
            config,
            via,
            unrouted,
            #[cfg(feature = "document")]
            applied: Default::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

/// The answer to a request, which is on its way.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Shared {
    /// Returns the current routes.
    fn routes(&self) -> Arc<Routes> {
        // No code of a user runs under the lock, so the value is whole even after a panic.
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("routes", &self.shared.routes().list).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for Proxy
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Arc::clone(&self.shared).answer(request.map(Body::new))
    }
}
