//! [`Upstream`]: the backends of a route.

use std::collections::HashSet;
use std::fmt;

use buttress::balance::{self, Balance, Endpoints, Handle, NoKey, Tried};
use buttress::discover::{Instance, Resolve};
use buttress::{InvalidConfig, StoreError};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Response, Uri};
use tower::Service;

use crate::forward::{Answer, Backend, Call, Judge, Lost};
use crate::numbers::{BackendStats, Roster};
use crate::path::{self, Allowed};

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
    http2: bool,
}

/// The address of a backend.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Endpoint {
    pub(crate) authority: Authority,
    /// The path that goes before each request's, without a slash at its end.
    pub(crate) base: String,
}

impl Upstream {
    /// Creates a fixed set of backends, each a URL such as `http://10.0.0.1:8001` or
    /// `http://orders:8001/v1`. The path of a URL goes before the path of each request.
    ///
    /// Short for [`balanced`](Self::balanced) with the default configuration.
    ///
    /// # Errors
    /// The set is empty, has a backend twice, or a URL is not of this form. `https` is not supported.
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
    /// The set is empty, has a backend or an id twice, or an address is not of this form. A value of `config` is out
    /// of its bounds.
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
        set.replace(&instances, maker(&roster));
        Self::over(set, roster, &config, instances.len() > 1)
    }

    /// Creates a set of backends that `resolve` finds, with a configuration of the balancer. The address of an
    /// instance is a URL, or a host and a port.
    ///
    /// The balancer keeps the last set if `resolve` fails or finds an address that is not of this form.
    ///
    /// # Errors
    /// A value of `config` is out of its bounds.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn resolving(
        resolve: impl Resolve + 'static,
        config: balance::Config,
    ) -> Result<Self, InvalidConfig> {
        let roster = Roster::default();
        let make = maker(&roster);
        let mut upstream = Self::over(Endpoints::new(), roster, &config, true)?;
        let resolve = Parsed { resolve };
        upstream.balance =
            upstream.balance.resolve_on(&buttress::Spawner::default(), resolve, make);
        Ok(upstream)
    }

    fn over(
        set: Endpoints<Backend>,
        roster: Roster,
        config: &balance::Config,
        has_others: bool,
    ) -> Result<Self, InvalidConfig> {
        let find: Find = |call| call.tried.as_ref();
        let balance = Balance::new(set, config.clone())?.tried(find).classify(Judge::default());
        Ok(Self { balance, roster, has_others, http2: false })
    }

    /// Uses HTTP/2 without negotiation. Default: HTTP/1.1. gRPC needs HTTP/2.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.http2 = true;
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
        self.http2
    }

    pub(crate) fn has_others(&self) -> bool {
        self.has_others
    }

    /// Sends a call to the backend that the balancer chooses.
    pub(crate) async fn call(&self, call: Call) -> Result<Response<Answer>, Lost> {
        self.balance.clone().call(call).await
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

/// Returns a function that makes the backend of an instance.
fn maker(roster: &Roster) -> impl Fn(&Instance) -> Backend + Send + use<> {
    let roster = roster.clone();
    // The address was checked before. `None` of another one never gets a call.
    move |instance| Backend::new(Endpoint::of(instance).ok(), roster.join(instance.id()))
}

/// A resolver that fails if an address is no backend.
struct Parsed<V> {
    resolve: V,
}

impl<V: Resolve> Resolve for Parsed<V> {
    async fn next(&mut self) -> Result<Vec<Instance>, StoreError> {
        let instances = self.resolve.next().await?;
        match instances.iter().find_map(|instance| Endpoint::of(instance).err()) {
            Some(error) => Err(StoreError::invalid(error.to_string())),
            None => Ok(instances),
        }
    }
}

impl Endpoint {
    fn of(instance: &Instance) -> Result<Self, InvalidConfig> {
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
        if parts.scheme != Some(Scheme::HTTP)
            || crate::host::normalize(authority.as_str().as_bytes()).is_none()
        {
            return Err(refused());
        }
        let target = parts.path_and_query.ok_or_else(refused)?;
        if target.query().is_some() || url.contains('#') {
            return Err(refused());
        }
        let base = target.path();
        path::check(base.as_bytes(), Allowed::default()).map_err(|_| refused())?;
        Ok(Self { authority, base: base.strip_suffix('/').unwrap_or(base).to_owned() })
    }

    pub(crate) fn uri(&self, target: &PathAndQuery) -> Option<Uri> {
        let target = if self.base.is_empty() {
            target.clone()
        } else {
            PathAndQuery::try_from(format!("{}{target}", self.base)).ok()?
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
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
