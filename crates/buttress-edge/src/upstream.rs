//! [`Upstream`]: the backends of a route.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;

use buttress::balance::{self, Balance, Endpoints, Handle, NoKey, Tried};
use buttress::discover::{Instance, Resolve};
use buttress::{InvalidConfig, StoreError};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Response, Uri};
use tower::Service;

use crate::discover::check_size;
use crate::forward::{Answer, Backend, Call, Judge, Lost};
use crate::numbers::{BackendStats, Roster};
use crate::path::{self, Allowed};

/// The concurrent requests of a connection of HTTP/2: the least that RFC 9113 recommends servers to allow (6.5.2).
const STREAMS: u32 = 100;

type Find = for<'a> fn(&'a Call) -> Option<&'a Tried>;

/// The backends of a route. Cheap to clone; clones share the choice and the numbers.
///
/// A [balancer](buttress::balance) chooses the backend of each request. If a backend cannot be connected to, the
/// request goes to another one, once, whatever its method: nothing of it was sent. A request does not
/// meet the same backend twice while another one is in, except a GET or HEAD that met a closed pooled connection.
///
/// The balancer counts a failed connection, a missing or invalid answer, and a 5xx other than 501 and 505 as
/// failures. Failures of a client are not counted. If no backend takes a request within
/// [`max_wait`](balance::Config::max_wait), by default 1 second, the request is answered with 503.
///
/// ```
/// use buttress::balance::{Config, Outliers, Policy};
/// use buttress::discover::Instance;
/// use buttress_edge::Upstream;
///
/// let instances = [Instance::at("10.0.0.1:8001").with_weight(3), Instance::at("10.0.0.2:8001")];
/// let config = Config::new().policy(Policy::RoundRobin).eject(Outliers::new());
/// let orders = Upstream::balanced(instances, config)?;
/// assert_eq!(orders.handle().stats().endpoints_in, 2);
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct Upstream {
    balance: Balance<Backend, NoKey, Find, Judge>,
    roster: Roster,
    /// Whether there can be another backend to go to.
    has_others: bool,
    /// The streams of each connection of HTTP/2.
    http2: Option<u32>,
}

/// The address of a backend.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Endpoint {
    is_secure: bool,
    pub authority: Authority,
    /// The field `Host` of requests: the authority without the standard port.
    pub host: HeaderValue,
    /// The path that goes before each request's, without a slash at its end.
    pub base: String,
}

impl Upstream {
    /// Creates a fixed set of backends, each a URL such as `http://10.0.0.1:8001` or
    /// `http://orders:8001/v1`. The path of a URL goes before the path of each request.
    ///
    /// Short for [`balanced`](Self::balanced) with the default configuration.
    ///
    /// # Errors
    /// Returns an error if the set is empty, has a backend twice, or a URL is not of this form. `https` needs the
    /// feature `tls`.
    pub fn fixed<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Result<Self, InvalidConfig> {
        let instances: Result<Vec<_>, _> = urls
            .into_iter()
            .map(|url| Endpoint::parse(url.as_ref()).map(|_| Instance::at(url.as_ref())))
            .collect();
        Self::balanced(instances?, balance::Config::new())
    }

    /// Creates a fixed set of backends with a configuration of the balancer. The address of an instance is a URL, or
    /// a host and a port. The clock of `config` should be the clock of the proxy.
    ///
    /// # Errors
    /// Returns an error if the set is empty, has a backend or an id twice, or has an address of another form, or if a
    /// value of `config` is out of its bounds.
    pub fn balanced(
        instances: impl IntoIterator<Item = Instance>,
        config: balance::Config,
    ) -> Result<Self, InvalidConfig> {
        let instances: Vec<Instance> = instances.into_iter().collect();
        if instances.is_empty() {
            return Err(InvalidConfig::new("upstream", "no URL", "at least one URL"));
        }
        let (mut ids, mut endpoints) = (HashSet::new(), HashSet::new());
        for instance in &instances {
            let is_new = ids.insert(instance.id());
            if !endpoints.insert(Endpoint::of(instance)?) || !is_new {
                let value = format!("{:?} twice", instance.address());
                return Err(InvalidConfig::new("upstream", value, "different backends"));
            }
        }
        let (set, roster) = (Endpoints::new(), Roster::default());
        set.replace(&instances, |instance| {
            // The addresses were checked. A backend without one never gets a call.
            Backend::new(Endpoint::of(instance).ok(), roster.join(instance.id()))
        });
        Self::over(set, roster, &config, instances.len() > 1)
    }

    /// Creates a set of backends that `resolve` finds, with a configuration of the balancer. The address of an
    /// instance is a URL, or a host and a port.
    ///
    /// The balancer keeps the last set if `resolve` fails, or finds more than 1000 instances. It leaves out an instance
    /// whose address does not have this form, logs a warning, and counts the instance in
    /// [`left_out`](buttress::balance::ResolverStats::left_out). If no address of a set has this form, the last set
    /// stays.
    ///
    /// # Errors
    /// Returns an error if a value of `config` is out of its bounds.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    pub fn resolving(
        resolve: impl Resolve + 'static,
        config: balance::Config,
    ) -> Result<Self, InvalidConfig> {
        let roster = Roster::default();
        let of_backends = roster.clone();
        let make = move |instance: &Instance| {
            let endpoint = Endpoint::of(instance)?;
            Ok::<_, InvalidConfig>(Backend::new(Some(endpoint), of_backends.join(instance.id())))
        };
        let mut upstream = Self::over(Endpoints::new(), roster, &config, true)?;
        let resolve = Bounded { resolve };
        upstream.balance =
            upstream.balance.try_resolve_on(&buttress::Spawner::default(), resolve, make);
        Ok(upstream)
    }

    fn over(
        set: Endpoints<Backend>,
        roster: Roster,
        config: &balance::Config,
        has_others: bool,
    ) -> Result<Self, InvalidConfig> {
        let find: Find = Call::tried;
        let balance = Balance::new(set, config.clone())?.tried(find).classify(Judge::default());
        Ok(Self { balance, roster, has_others, http2: None })
    }

    /// Uses HTTP/2. Default: HTTP/1.1. gRPC needs HTTP/2.
    ///
    /// Connections of `http` begin with HTTP/2 without negotiation. Connections of `https` negotiate it, and fail if the
    /// backend does not speak it.
    ///
    /// A connection carries 100 requests at the same time, the least that RFC 9113 recommends servers to allow. Further
    /// requests open another connection, so clients that hold many requests do not keep others waiting.
    /// [`Route::max_concurrent`](crate::Route::max_concurrent) bounds them. [`http2_streams`](Self::http2_streams) changes the
    /// number.
    #[must_use]
    pub fn http2(self) -> Self {
        self.http2_streams(STREAMS)
    }

    /// Uses HTTP/2 with at most this number of concurrent requests per connection. At least 1; 0 counts as 1.
    ///
    /// Use it for backends that allow fewer streams than 100. A request above the backend's own limit waits in the proxy,
    /// and counts as a failure of the backend if its wait is longer than [`head_limit`](crate::Config::head_limit).
    #[must_use]
    pub fn http2_streams(mut self, requests: u32) -> Self {
        self.http2 = Some(requests.max(1));
        self
    }

    /// Returns the handle of the balancer, for operators and health checks.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.balance.handle()
    }

    /// Returns the numbers of each backend, by the id of its instance. The id is the address unless the instance has
    /// another one. The numbers of a backend that has left the set are dropped with its last request.
    #[must_use]
    pub fn stats(&self) -> Vec<(String, BackendStats)> {
        self.roster.stats()
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.http2.is_some()
    }

    /// Returns how many requests a connection of HTTP/2 carries. `None` for HTTP/1.1.
    pub(crate) fn streams(&self) -> Option<u32> {
        self.http2
    }

    pub(crate) fn has_others(&self) -> bool {
        self.has_others
    }

    /// Sends a call to the backend that the balancer chooses.
    pub(crate) fn call(
        &self,
        call: Call,
    ) -> impl Future<Output = Result<Response<Answer>, Lost>> + Send + use<> {
        self.balance.clone().call(call)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { balance, http2, .. } = self;
        f.debug_struct("Upstream")
            .field("balance", balance)
            .field("http2", http2)
            .finish_non_exhaustive()
    }
}

/// A resolver that fails if a set is too large.
struct Bounded<V> {
    resolve: V,
}

impl<V: Resolve> Resolve for Bounded<V> {
    async fn next(&mut self) -> Result<Vec<Instance>, StoreError> {
        let instances = self.resolve.next().await?;
        check_size(instances.len())?;
        Ok(instances)
    }
}

impl Endpoint {
    pub(crate) fn of(instance: &Instance) -> Result<Self, InvalidConfig> {
        let address = instance.address();
        if address.contains("://") {
            Self::parse(address)
        } else {
            Self::parse(&format!("http://{address}"))
        }
    }

    fn parse(url: &str) -> Result<Self, InvalidConfig> {
        let bound = "a URL such as http://10.0.0.1:8001 or http://orders:8001/v1";
        let refused = || InvalidConfig::new("upstream", format!("{url:?}"), bound);
        let uri: Uri = url.parse().map_err(|_| refused())?;
        let parts = uri.into_parts();
        let authority = parts.authority.ok_or_else(refused)?;
        let is_secure = parts.scheme == Some(Scheme::HTTPS);
        let is_known = is_secure && cfg!(feature = "tls") || parts.scheme == Some(Scheme::HTTP);
        if !is_known || crate::host::normalize(authority.as_str().as_bytes()).is_none() {
            return Err(refused());
        }
        let standard = if is_secure { 443 } else { 80 };
        let host = match authority.port_u16() {
            Some(port) if port != standard => authority.as_str(),
            _ => authority.host(),
        };
        let host = HeaderValue::from_str(host).map_err(|_| refused())?;
        let target = parts.path_and_query.ok_or_else(refused)?;
        if target.query().is_some() || url.contains('#') {
            return Err(refused());
        }
        let base = target.path();
        path::check(base.as_bytes(), Allowed::default()).map_err(|_| refused())?;
        let base = base.strip_suffix('/').unwrap_or(base).to_owned();
        Ok(Self { is_secure, authority, host, base })
    }

    /// Returns the IP address of the endpoint. `None` if it is a name.
    #[cfg(feature = "registry")]
    pub(crate) fn ip(&self) -> Option<std::net::IpAddr> {
        let host = self.authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(host.parse::<std::net::IpAddr>().ok()?.to_canonical())
    }

    pub(crate) fn uri(&self, target: PathAndQuery) -> Option<Uri> {
        let target = if self.base.is_empty() {
            target
        } else {
            PathAndQuery::try_from(format!("{}{target}", self.base)).ok()?
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if self.is_secure { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target);
        Uri::from_parts(parts).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_url_is_kept_without_its_last_slash() {
        for (url, authority, base) in
            [("http://a", "a", ""), ("http://b:2/", "b:2", ""), ("http://c/v1/", "c", "/v1")]
        {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!((endpoint.authority.as_str(), &*endpoint.base), (authority, base));
        }
        for (url, host) in [
            ("http://a:80", "a"),
            ("http://a:443/b", "a:443"),
            ("http://[::1]:8080", "[::1]:8080"),
            #[cfg(feature = "tls")]
            ("https://a:443", "a"),
            #[cfg(feature = "tls")]
            ("https://A:80", "A:80"),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().host, host, "{url}");
        }
        let endpoint = Endpoint::of(&Instance::at("10.0.0.1:8001")).unwrap();
        assert_eq!((endpoint.authority.as_str(), &*endpoint.base), ("10.0.0.1:8001", ""));
    }

    #[test]
    fn what_is_no_backend_is_refused() {
        for url in [
            "",
            "a",
            "a:80",
            "/a",
            #[cfg(not(feature = "tls"))]
            "https://a",
            "ftp://a",
            "http://",
            "http://u@a",
            "http://u:p@a",
            "http://a?b",
            "http://a/#b",
            "http://a/../b",
            "http://a//b",
            "http://a:x",
            "http://a:65536",
        ] {
            let error = Upstream::fixed([url]).unwrap_err();
            assert_eq!(error.field(), "upstream", "{url}");
        }
        assert!(Upstream::fixed([""; 0]).is_err());
        assert!(Upstream::fixed(["http://a", "http://a/"]).is_err());
        let same = [Instance::new("x", "a"), Instance::new("x", "b")];
        assert!(Upstream::balanced(same, balance::Config::new()).is_err());
    }
}
