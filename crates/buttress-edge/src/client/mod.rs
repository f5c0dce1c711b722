//! [`ServiceClient`]: an HTTP client of one service, with the limits that a call needs.
//!
//! A client has a base URL, or a set of endpoints that a [balancer](buttress::balance) chooses from. From the outside
//! in, a request passes
//!
//! 1. a time limit for all attempts, which the [context](buttress::context) carries on to the service,
//! 2. a circuit breaker, which counts each request once,
//! 3. a retry of requests that may be run twice, with a budget; `Retry-After` is the least wait,
//! 4. the balancer, and a time limit for each attempt,
//! 5. a pool of connections.
//!
//! A request that was not sent goes to another endpoint, once, and then to the retry, whatever its method. A GET or HEAD that met a closed connection of the pool
//! is sent once more. Redirects are not followed.
//!
//! ```no_run
//! use buttress_edge::client::ServiceClient;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let orders = ServiceClient::new("http://orders:8001/v1")?;
//! let order = orders.get("/orders/{id}").param("id", 7).bytes().await?;
//! let key = "7f3c2b";
//! let paid = orders.post("/orders/{id}/payment").param("id", 7).idempotency_key(key).send().await?;
//! # let _ = (order, paid);
//! # Ok(())
//! # }
//! ```
//!
//! The client is a tower service over [`Request`] with a [`Body`]. [`ServiceClient::layer`] puts layers around the
//! preset; [`Config`] replaces or removes its parts.

mod config;
mod direct;
mod error;
mod request;

use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress::{InvalidConfig, balance, circuit_breaker};
use http::{Method, Request};
use tower::{Layer, Service};

pub use config::Config;
use config::Reading;
pub use direct::Direct;
pub use error::{ClientError, ClientErrorKind};
pub use request::ClientRequest;

use crate::forward::Connector;
use crate::{BackendStats, Body, RouteStats, Upstream};

/// An HTTP client of one service. Cheap to clone; clones share connections, circuit and numbers. See the
/// [module](self).
#[derive(Clone, Debug)]
pub struct ServiceClient<S = Direct> {
    service: S,
    host: Arc<str>,
    reading: Reading,
}

impl ServiceClient {
    /// Creates a client of the service at `url`, e.g. `http://orders:8001` or `http://orders:8001/v1`, with the default
    /// [`Config`].
    ///
    /// # Errors
    /// Returns an error if `url` is not of this form.
    pub fn new(url: &str) -> Result<Self, InvalidConfig> {
        Self::with(url, Config::new())
    }

    /// Creates a client of the service at `url`.
    ///
    /// # Errors
    /// Returns an error if `url` is not of the form of [`new`](Self::new), or if a value of `config` is out of its
    /// bounds.
    pub fn with(url: &str, config: Config) -> Result<Self, InvalidConfig> {
        let upstream = Upstream::fixed([url])
            .map_err(|error| InvalidConfig::new("url", error.value(), error.bound()))?;
        let host = url.split_once("://").map_or(url, |(_, rest)| rest);
        let host = host.split_once('/').map_or(host, |(host, _)| host);
        Self::over(host, upstream, config)
    }

    /// Creates a client of a service with several endpoints. Errors name the service as `name`.
    ///
    /// # Errors
    /// Returns an error if a value of `config` is out of its bounds.
    pub fn over(name: &str, upstream: Upstream, config: Config) -> Result<Self, InvalidConfig> {
        let forwarding = config.forwarding();
        let connector = Connector::new(forwarding.connect, forwarding.clock);
        Self::connecting(name, upstream, config, connector)
    }

    pub(crate) fn connecting(
        name: &str,
        upstream: Upstream,
        config: Config,
        connector: Connector,
    ) -> Result<Self, InvalidConfig> {
        let reading = config.reading();
        let service = Direct::new(upstream, name, config, connector)?;
        Ok(Self { host: Arc::clone(service.host()), reading, service })
    }

    /// Returns the handle of the circuit breaker. `None` without one.
    #[must_use]
    pub fn circuit(&self) -> Option<&circuit_breaker::Handle> {
        self.service.circuit()
    }

    /// Returns the handle of the balancer.
    #[must_use]
    pub fn balance(&self) -> balance::Handle {
        self.service.upstream().handle()
    }

    /// Returns the numbers of the client. Requests that were invalid have not begun.
    #[must_use]
    pub fn stats(&self) -> RouteStats {
        self.service.stats()
    }

    /// Returns the numbers of each endpoint, by the id of its instance.
    #[must_use]
    pub fn endpoints(&self) -> Vec<(String, BackendStats)> {
        self.service.upstream().stats()
    }
}

impl<S> ServiceClient<S> {
    /// Puts `layer` around the client. Take the handles of the preset before.
    pub fn layer<L: Layer<S>>(self, layer: L) -> ServiceClient<L::Service> {
        let Self { service, host, reading } = self;
        ServiceClient { service: layer.layer(service), host, reading }
    }
}

/// Makes the method that begins a request.
macro_rules! methods {
    ($($name:ident $method:ident,)+) => {
        impl<S: Clone> ServiceClient<S> {
            $(
                #[doc = concat!("Begins a ", stringify!($method), " of `path`, which begins with a slash. A `{name}` in")]
                /// it is the place of a [parameter](ClientRequest::param).
                pub fn $name(&self, path: impl Into<Cow<'static, str>>) -> ClientRequest<S> {
                    self.request(Method::$method, path)
                }
            )+

            /// Begins a request with any method.
            pub fn request(
                &self,
                method: Method,
                path: impl Into<Cow<'static, str>>,
            ) -> ClientRequest<S> {
                let about = (Arc::clone(&self.host), self.reading.clone());
                ClientRequest::new(self.service.clone(), about, method, path.into())
            }
        }
    };
}

methods! {
    get GET,
    head HEAD,
    post POST,
    put PUT,
    patch PATCH,
    delete DELETE,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for ServiceClient<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.service.call(request)
    }
}
