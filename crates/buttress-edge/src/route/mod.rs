//! [`Route`]: which requests go where.

mod check;
mod local;
mod mismatches;
mod shadow;
mod split;
mod table;
mod to;

use std::sync::Arc;
use std::time::Duration;

use buttress::__setters as setters;
use buttress::rate_limit::KeyedHandle;
use buttress::{InvalidConfig, bulkhead, circuit_breaker, rate_limit, retry};
use buttress_http::client_key::AddressKeys;
use bytes::Bytes;
use http::{Method, Request, Response};
use tower::{BoxError, Service};

use crate::Body;
use crate::admission::{Admit, Admits};
use crate::caller::ClientKey;
use crate::forward::{Again, again};
use crate::route_limits::Limits;
use crate::upstream::Upstream;

pub(crate) use check::{Checked, Host};
pub use local::LocalService;
pub use mismatches::ShadowMismatches;
pub(crate) use mismatches::{Differing, Mismatches};
pub use shadow::RouteShadow;
pub use split::RouteSplit;
pub(crate) use split::Wish;
pub(crate) use table::{Found, Table};
pub(crate) use to::{Backends, Sides, To};

/// A rule that sends requests with a host, a path prefix and a method to an [`Upstream`], or to a service of the
/// process.
///
/// A route matches a request if its host, its prefix and its methods all match. Of several routes
/// that match, an exact host wins over a wildcard, and a wildcard wins over no host. Then the longer
/// prefix wins. Then a route with methods wins over a route without. Two routes that are equal in
/// all of these are an error of [`Proxy::new`](crate::Proxy::new).
///
/// ```
/// use buttress_edge::{Route, Upstream};
/// use http::Method;
///
/// let orders = Route::new("orders")
///     .host("shop.example")
///     .prefix("/api/orders")
///     .methods([Method::GET, Method::POST])
///     .strip("/api")
///     .to(Upstream::fixed(["http://10.0.0.1:8001", "http://10.0.0.2:8001"])?)
///     .public();
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Route {
    pub(crate) name: String,
    pub(crate) host: Option<String>,
    prefix: String,
    methods: Option<Vec<Method>>,
    pub(crate) strip: Option<String>,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) service: Option<LocalService>,
    pub(crate) split: Option<RouteSplit>,
    pub(crate) shadow: Option<RouteShadow>,
    pub(crate) public: bool,
    pub(crate) admit: Option<Admits>,
    pub(crate) identity: Option<String>,
    pub(crate) forward_credentials: bool,
    pub(crate) encoded_slash: bool,
    pub(crate) max_request_body: Option<u64>,
    pub(crate) limits: Limits,
    pub(crate) retry: Option<Result<Again, InvalidConfig>>,
    replay_buffer: usize,
    pub(crate) honours_keys: bool,
}

impl Route {
    /// Creates a route with a name, which must be unique within a proxy. It matches every request.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            host: None,
            prefix: String::from("/"),
            methods: None,
            strip: None,
            upstream: None,
            service: None,
            split: None,
            shadow: None,
            public: false,
            admit: None,
            identity: None,
            forward_credentials: false,
            encoded_slash: false,
            max_request_body: None,
            limits: Limits::default(),
            retry: None,
            replay_buffer: 64 * 1024,
            honours_keys: false,
        }
    }

    setters! {
        /// Sets the host: a name, or `*.` and a name for all names below it. Default: any host.
        ///
        /// Case, a trailing dot and the port of the request do not matter.
        host(host: impl Into<String>) => Some(host.into());

        /// Sets the prefix of the path, in whole segments. `/api` matches `/api` and `/api/x`, and not
        /// `/apiary`. Default: `/`, which matches every path.
        ///
        /// Requests are matched with escapes of unreserved characters decoded: `/%61pi` is `/api`.
        prefix(prefix: impl Into<String>) => prefix.into();

        /// Sets the methods. Default: every method but CONNECT and TRACE, which a proxy never forwards.
        /// GET does not include HEAD. An empty list is an error of the proxy.
        ///
        /// If only the method of a request has no route, the proxy answers 405.
        methods(methods: impl IntoIterator<Item = Method>) => Some(methods.into_iter().collect());

        /// Removes this prefix from the path before the request is forwarded. It must be a prefix of
        /// the route's own, in whole segments. Default: nothing is removed.
        ///
        /// If nothing of the path remains, it becomes `/`.
        strip(prefix: impl Into<String>) => Some(prefix.into());

        /// Sets the backends. A route without backends and without a [service](Self::to_service) is an error of the
        /// proxy.
        to(upstream: Upstream) sets upstream => Some(upstream);
    }

    /// Answers the requests with a tower service of this process in place of backends: an axum router, or a service
    /// that calls others, such as an [`Aggregate`](buttress::aggregate::Aggregate).
    ///
    /// Everything before the backends is the same: checks of the path, admission, limits, the drain and the numbers of
    /// the route. The service gets the request as a backend would, with the target that [`strip`](Self::strip) leaves.
    /// `Host` is the client's, and the request keeps its extensions. The [`Subject`](crate::Subject) that the admission
    /// has found is an extension. The [context](buttress::context::Context) is the current one of the call, so a client
    /// that the service calls sends its ids and the remaining time. Under a
    /// [`ContextLayer`](buttress_http::context::ContextLayer) the request has the fields of the context too, as one to
    /// a backend has.
    ///
    /// Each request gets a clone of the service, and waits until that clone is ready.
    ///
    /// | the service | answer | counted as |
    /// |---|---|---|
    /// | answers, with any status | its answer | answered |
    /// | fails with a refusal of a `buttress` layer: no permit, token or endpoint, or an open circuit | 429 or 503 with `Retry-After` | refused, by reason |
    /// | does not answer within [`head_limit`](crate::Config::head_limit) or [`time_limit`](Self::time_limit), or fails with a timeout of a `buttress` layer | 504 | failed |
    /// | fails with another error, or panics | 502 | failed |
    /// | answers with 101 | 502 | failed |
    ///
    /// An upgrade arrives as an ordinary request: only backends can answer a WebSocket. A body whose service
    /// sends no frame for [`idle_limit`](crate::Config::idle_limit) fails. Layers around the service take the place of
    /// [`retry`](Self::retry), [`split`](Self::split) and [`shadow`](Self::shadow), which are errors of the proxy here.
    ///
    /// ```
    /// use buttress_edge::{Body, Route};
    /// use http::{Request, Response};
    /// use tower::{BoxError, service_fn};
    ///
    /// let hello = service_fn(async |request: Request<Body>| {
    ///     let greeting = format!("hello from {}", request.uri().path());
    ///     Ok::<_, BoxError>(Response::new(Body::from(greeting)))
    /// });
    /// let route = Route::new("hello").prefix("/hello").to_service(hello).public();
    /// # let _ = buttress_edge::Proxy::new(buttress_edge::Config::new(), [route])?;
    /// # Ok::<(), buttress::InvalidConfig>(())
    /// ```
    pub fn to_service<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
        S: Clone + Send + Sync + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        self.service = Some(LocalService::new(service));
        self
    }

    setters! {
        /// Sends a share of the requests to a new set of backends, which must speak the same version of HTTP. Default:
        /// all requests go to the backends of [`to`](Self::to), which are the old side then.
        split(split: RouteSplit) => Some(split);

        /// Sends a copy of some requests to other backends too, which must speak the same version of HTTP. The client
        /// never notices them. Default: no request is copied.
        shadow(shadow: RouteShadow) => Some(shadow);
    }

    /// States that the route admits every caller. A route that says neither this nor [`admit`](Self::admit), or both,
    /// is an error of the proxy.
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    setters! {
        /// Sets who may use the route. The proxy answers all others with 401 and `WWW-Authenticate`, 403 or 503.
        ///
        /// A request that is denied spends no token of a limit. The subject of an admitted request is the client of
        /// [`per_client`](Self::per_client), and the [identity](buttress::context::Context::identity) of the context in
        /// which the proxy forwards the request.
        admit(admit: impl Admit + 'static) => Some(Admits(Arc::new(admit)));

        /// Sends the subject of an admitted request to the backend in this field, e.g. `x-user`. Default: the backend
        /// does not get the subject.
        ///
        /// The proxy removes this field from the requests of all of its routes, also in another case and with `_` for
        /// `-`. So a client cannot write it. A request whose admission found no subject arrives without the field. A
        /// field that the proxy writes or removes for another reason is an error of the proxy, and so is this setting
        /// on a public route.
        forward_identity(field: impl Into<String>) sets identity => Some(field.into());
    }

    /// Sends the credentials of requests to the backend: `Authorization`, and the fields that the [`Admit`] of any
    /// route [names](Admit::credentials). Default: the proxy removes them, also on public routes, so that a backend
    /// cannot use the credentials of its callers elsewhere.
    pub fn forward_credentials(mut self) -> Self {
        self.forward_credentials = true;
        self
    }

    /// Accepts `%2F` in the path, and forwards it encoded. Default: the request is answered with
    /// 400, because the backend could take it for a separator.
    pub fn allow_encoded_slash(mut self) -> Self {
        self.encoded_slash = true;
        self
    }

    setters! {
        /// Sets the longest body of a request, in bytes. A longer one is answered with 413. Default:
        /// unlimited.
        max_request_body(bytes: u64) => Some(bytes);

        /// Limits the requests of the route per time window. Routes with the handle of one limiter share its tokens.
        /// Default: unlimited.
        ///
        /// A request waits in the queue of the limiter, if it has one. A request without a token is answered with 429.
        /// A request that the proxy refuses for another reason spends no token.
        ///
        /// ```
        /// use std::time::Duration;
        /// use buttress::rate_limit::{Config, RateLimitLayer};
        /// use buttress_edge::Route;
        ///
        /// let limit = RateLimitLayer::new(Config::new().refill(100, Duration::from_secs(1)))?;
        /// let route = Route::new("orders").rate_limit(limit.handle());
        /// # Ok::<(), buttress::InvalidConfig>(())
        /// ```
        rate_limit(limiter: rate_limit::Handle) sets limits.rate => Some(limiter);
    }

    /// Limits the requests of each client per time. Default: unlimited.
    ///
    /// The client is the subject that the [admission](Self::admit) found. Without a subject it is the address that
    /// `keys` finds. IPv6 addresses count by their first 64 bits, and requests without an address share one key.
    ///
    /// A request without a token is answered with 429, and takes no token of [`rate_limit`](Self::rate_limit). If the
    /// limiter holds its greatest number of clients and can forget none, a new client is answered with 503.
    ///
    /// ```
    /// use std::time::Duration;
    /// use buttress::rate_limit::{Config, KeyedRateLimitLayer};
    /// use buttress_edge::{ClientKey, Route};
    /// use buttress_http::client_key::AddressKeys;
    ///
    /// let keys = AddressKeys::new().trust_networks(["10.0.0.0/8"])?;
    /// let config = Config::new().refill(100, Duration::from_secs(60));
    /// let limit = KeyedRateLimitLayer::new(config, 10_000, ClientKey::clone)?;
    /// let route = Route::new("orders").per_client(limit.handle(), keys);
    /// # Ok::<(), buttress::InvalidConfig>(())
    /// ```
    pub fn per_client(mut self, limiter: KeyedHandle<ClientKey>, keys: AddressKeys) -> Self {
        self.limits.per_client = Some((limiter, keys));
        self
    }

    setters! {
        /// Limits how many requests of the route run concurrently. A request runs until the client has the whole
        /// answer. Default: unlimited.
        ///
        /// A request waits in the queue of the bulkhead, if it has one. A request without a permit is answered with
        /// 503.
        max_concurrent(bulkhead: bulkhead::Handle) sets limits.concurrent => Some(bulkhead);

        /// Stops requests while the backends of the route fail together. Default: no circuit breaker.
        ///
        /// An open circuit answers 503. Failures are the failures that [`Upstream`] counts, and a passed
        /// [`time_limit`](Self::time_limit). The head of an answer decides. An ejection stops requests to one backend.
        /// The circuit stops requests to all backends.
        circuit_breaker(circuit: circuit_breaker::Handle) sets limits.circuit => Some(circuit);

        /// Sets the longest time of all attempts together, until the head of the answer. Default: unlimited; each
        /// attempt has the limits of [`Config`](crate::Config).
        ///
        /// A request that takes longer is answered with 504, or with 408 if its client has not sent the body. The time
        /// begins when the request has passed the other limits of the route.
        time_limit(limit: Duration) sets limits.time => Some(limit);
    }
    /// Repeats requests that failed, by these rules. Default: no retries.
    ///
    /// The retry repeats requests that no backend answered, and answers with the statuses of
    /// [`RetryableStatus`](buttress_http::RetryableStatus). `Retry-After` is the least wait. An attempt that would
    /// begin after the [`time_limit`](Self::time_limit), or after the deadline of the context, is not made: the client
    /// gets the last answer immediately.
    ///
    /// A request that a backend can have seen is repeated only if its method is idempotent:
    /// [`backend_honours_idempotency_keys`](Self::backend_honours_idempotency_keys) adds others. A request whose body
    /// is longer than the [`replay_buffer`](Self::replay_buffer) is not repeated after a backend has read of it. The
    /// attempts of a request go to different backends while another one is in.
    ///
    /// Two attempts suffice for the failure of one backend. Without a [budget](retry::Config::budget) in `config`, the
    /// route repeats at most a fifth of its requests of the last 10 seconds, and 3 per second. The clock of `config`
    /// should be the clock of the proxy.
    ///
    /// ```
    /// use buttress::retry::Config;
    /// use buttress_edge::Route;
    ///
    /// let route = Route::new("orders").retry(Config::new().attempts(2));
    /// ```
    pub fn retry(mut self, config: retry::Config) -> Self {
        // Built here, so that clones of the route share the budget. The proxy returns the error.
        self.retry = Some(again(config));
        self
    }

    /// States that the backends run a request with an `Idempotency-Key` once, however many times they get it. The
    /// [`retry`](Self::retry) repeats such requests then, whatever their method. Default: the key changes nothing,
    /// because a client sets it and a backend can ignore it.
    pub fn backend_honours_idempotency_keys(mut self) -> Self {
        self.honours_keys = true;
        self
    }

    /// Sets how many bytes of a body the proxy keeps for the [`retry`](Self::retry). Default: 64 KiB. Each request in
    /// flight on the route can hold as much.
    pub fn replay_buffer(mut self, bytes: usize) -> Self {
        self.replay_buffer = bytes;
        self
    }
}
