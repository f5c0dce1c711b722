//! [`Route`]: which requests go where.

mod table;

use std::sync::Arc;

use buttress::InvalidConfig;
use http::Method;

use crate::host;
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
