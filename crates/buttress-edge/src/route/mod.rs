//! [`Route`]: which requests go where.

mod table;

use std::sync::Arc;
use std::time::Duration;

use buttress::rate_limit::KeyedHandle;
use buttress::{InvalidConfig, bulkhead, circuit_breaker, rate_limit};
use buttress_http::client_key::{AddressKey, AddressKeys};
use http::Method;

use crate::host;
use crate::limits::Limits;
use crate::numbers::Counters;
use crate::path::{self, Allowed};
use crate::upstream::Upstream;

pub(crate) use table::{Found, Table};

/// A rule that sends requests with a host, a path prefix and a method to an [`Upstream`].
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
    name: String,
    host: Option<String>,
    prefix: String,
    methods: Vec<Method>,
    strip: Option<String>,
    upstream: Option<Upstream>,
    public: bool,
    encoded_slash: bool,
    max_request_body: Option<u64>,
    limits: Limits,
}

impl Route {
    /// Creates a route with a name, which must be unique within a proxy. It matches every request.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            host: None,
            prefix: String::from("/"),
            methods: Vec::new(),
            strip: None,
            upstream: None,
            public: false,
            encoded_slash: false,
            max_request_body: None,
            limits: Limits::default(),
        }
    }

    /// Sets the host: a name, or `*.` and a name for all names below it. Default: any host.
    ///
    /// Case, a trailing dot and the port of the request do not matter.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Sets the prefix of the path, in whole segments. `/api` matches `/api` and `/api/x`, and not
    /// `/apiary`. Default: `/`, which matches every path.
    ///
    /// Requests are matched with escapes of unreserved characters decoded: `/%61pi` is `/api`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the methods. Default: every method but CONNECT and TRACE, which a proxy never forwards.
    /// GET does not include HEAD.
    ///
    /// A request whose method no matching route has is answered with 405.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Removes this prefix from the path before the request is forwarded. It must be a prefix of
    /// the route's own, in whole segments. Default: nothing is removed.
    ///
    /// A path of which nothing remains becomes `/`.
    pub fn strip(mut self, prefix: impl Into<String>) -> Self {
        self.strip = Some(prefix.into());
        self
    }

    /// Sets the backends. A route without backends is an error of the proxy.
    pub fn to(mut self, upstream: Upstream) -> Self {
        self.upstream = Some(upstream);
        self
    }

    /// States that the route admits every caller. A route that does not say who is admitted is an
    /// error of the proxy.
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// Accepts `%2F` in the path, and forwards it encoded. Default: the request is answered with
    /// 400, because the backend could take it for a separator.
    pub fn allow_encoded_slash(mut self) -> Self {
        self.encoded_slash = true;
        self
    }

    /// Sets the longest body of a request, in bytes. A longer one is answered with 413. Default:
    /// unlimited.
    pub fn max_request_body(mut self, bytes: u64) -> Self {
        self.max_request_body = Some(bytes);
        self
    }

    /// Limits the requests of the route per time. Routes with the handle of one limiter share its tokens. Default:
    /// unlimited.
    ///
    /// A request waits in the queue of the limiter, if it has one. A request without a token is answered with 429. A
    /// request that the proxy refuses for another reason before that spends none.
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
    pub fn rate_limit(mut self, limiter: rate_limit::Handle) -> Self {
        self.limits.rate = Some(limiter);
        self
    }

    /// Limits the requests of each client per time. `keys` finds the address of the client; IPv6 addresses count by
    /// their first 64 bits, and requests without an address share one key. Default: unlimited.
    ///
    /// A request without a token is answered with 429, and takes no token of [`rate_limit`](Self::rate_limit). If the
    /// limiter holds its greatest number of clients and can forget none, a new client is answered with 503.
    ///
    /// ```
    /// use std::time::Duration;
    /// use buttress::rate_limit::{Config, KeyedRateLimitLayer};
    /// use buttress_edge::Route;
    /// use buttress_http::client_key::AddressKeys;
    ///
    /// let keys = AddressKeys::new().trust_networks(["10.0.0.0/8"])?;
    /// let config = Config::new().refill(100, Duration::from_secs(60));
    /// let limit = KeyedRateLimitLayer::new(config, 10_000, keys.clone().key::<()>())?;
    /// let route = Route::new("orders").per_client(limit.handle(), keys);
    /// # Ok::<(), buttress::InvalidConfig>(())
    /// ```
    pub fn per_client(mut self, limiter: KeyedHandle<AddressKey>, keys: AddressKeys) -> Self {
        self.limits.per_client = Some((limiter, keys));
        self
    }

    /// Limits how many requests of the route run concurrently. A request runs until the client has the whole answer.
    /// Default: unlimited.
    ///
    /// A request waits in the queue of the bulkhead, if it has one. A request without a permit is answered with 503.
    pub fn max_concurrent(mut self, bulkhead: bulkhead::Handle) -> Self {
        self.limits.concurrent = Some(bulkhead);
        self
    }

    /// Stops requests while the backends of the route fail together. Default: no circuit breaker.
    ///
    /// An open circuit answers 503. The failures are those that [`Upstream`] counts, and a passed
    /// [`time_limit`](Self::time_limit). The head of an answer decides. An ejection takes out one backend; the
    /// circuit stops all of them.
    pub fn circuit_breaker(mut self, circuit: circuit_breaker::Handle) -> Self {
        self.limits.circuit = Some(circuit);
        self
    }

    /// Sets the longest time of all attempts together, until the head of the answer. Default: unlimited; each attempt
    /// has the limits of [`Config`](crate::Config).
    ///
    /// A request that takes longer is answered with 504, or with 408 if its client has not sent the body. The time
    /// begins when the request has passed the other limits of the route.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limits.time = Some(limit);
        self
    }

    /// Checks the route, and returns what the proxy needs of it.
    pub(crate) fn check(self) -> Result<Checked, InvalidConfig> {
        let field = |name: &str| format!("routes.{}.{name}", self.name);
        let invalid = |name: &str, value: &str, bound: &str| {
            InvalidConfig::new(field(name), format!("{value:?}"), bound)
        };
        if self.name.is_empty() {
            return Err(InvalidConfig::new(
                "routes",
                "a route with an empty name",
                "a named route",
            ));
        }
        let host = match &self.host {
            None => Host::Any,
            Some(given) => {
                let bound = "a host name without a port, or such a name after `*.`";
                let refused = || invalid("host", given, bound);
                let (name, is_wildcard) = match given.strip_prefix("*.") {
                    Some(name) => (name, true),
                    None => (given.as_str(), false),
                };
                let has_port = name.contains(':') && !name.starts_with('[') || name.ends_with(':');
                let name = host::normalize(name.as_bytes()).filter(|_| !has_port);
                let name = name.ok_or_else(refused)?.into_owned();
                if is_wildcard { Host::Below(format!(".{name}")) } else { Host::Exact(name) }
            }
        };
        let allowed = Allowed { encoded_slash: self.encoded_slash };
        let prefix = segments(&self.prefix, allowed).ok_or_else(|| {
            invalid("prefix", &self.prefix, "an unambiguous path without a slash at its end")
        })?;
        let strip = match &self.strip {
            None => Vec::new(),
            Some(given) => segments(given, allowed)
                .filter(|strip| starts_with(&prefix, strip))
                .ok_or_else(|| invalid("strip", given, "a prefix of the route's own prefix"))?,
        };
        if let Some(method) =
            self.methods.iter().find(|method| matches!(**method, Method::CONNECT | Method::TRACE))
        {
            let bound = "a method that a proxy forwards";
            return Err(InvalidConfig::new(field("methods"), method, bound));
        }
        if self.limits.time.is_some_and(|limit| limit.is_zero()) {
            return Err(InvalidConfig::new(field("time-limit"), "0s", "longer than zero"));
        }
        if !self.public {
            return Err(InvalidConfig::new(field("admit"), "nothing", "stated: call `.public()`"));
        }
        let Some(upstream) = self.upstream else {
            return Err(InvalidConfig::new(field("to"), "nothing", "an upstream"));
        };
        Ok(Checked {
            host,
            prefix,
            methods: self.methods,
            strip: strip.len(),
            upstream,
            encoded_slash: self.encoded_slash,
            max_request_body: self.max_request_body,
            limits: self.limits,
            name: self.name,
            counters: Arc::default(),
        })
    }
}

/// A route that was checked.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) name: String,
    pub(crate) host: Host,
    /// The prefix in its matched form, without a slash at its end: `/` is empty.
    pub(crate) prefix: Vec<u8>,
    /// Empty for every method.
    pub(crate) methods: Vec<Method>,
    /// How many bytes of the matched form are removed.
    pub(crate) strip: usize,
    pub(crate) upstream: Upstream,
    pub(crate) encoded_slash: bool,
    pub(crate) max_request_body: Option<u64>,
    pub(crate) limits: Limits,
    pub(crate) counters: Arc<Counters>,
}

/// The hosts of a route.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Host {
    Exact(String),
    /// All names that end with this text, which begins with a dot.
    Below(String),
    Any,
}

/// Returns the matched form of a prefix; an empty one for `/`.
fn segments(prefix: &str, allowed: Allowed) -> Option<Vec<u8>> {
    let matched = path::check(prefix.as_bytes(), allowed).ok()?;
    match &*matched {
        b"/" => Some(Vec::new()),
        [.., b'/'] => None,
        _ => Some(matched.into_owned()),
    }
}

/// Whether the segments of `path` begin with those of `prefix`.
fn starts_with(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}
