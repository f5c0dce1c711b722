//! [`Document`]: routes in a configuration file.

mod admission;
mod backends;
mod before;
mod build;
mod effect;
mod secret;
mod section;
mod sides;
mod value;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use buttress::InvalidConfig;
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::Value;

pub(crate) use build::Applied;
use build::Parts;
pub use secret::{Secret, SecretError};
use section::Section;
use value::Sections;

use crate::admission::{Admit, Admits};
use crate::proxy::{Handle, Replaced};
use crate::route::LocalService;

/// The routes of a proxy by name, read from any serde format, such as TOML or YAML.
/// [`Handle::apply`] applies it.
///
/// ```toml
/// [routes.orders]
/// host = "shop.example"
/// prefix = "/api/orders"
/// methods = ["GET", "POST"]
/// strip = "/api"
/// admit = "staff"                 # or: public = true
/// forward-identity = "x-user"
/// upstream = { urls = ["http://10.0.0.1:8001", "http://10.0.0.2:8001"] }
/// time-limiter = { limit = "10s" }
/// retry = { attempts = 2 }
/// rate-limiter = { max-tokens = 100, refill-tokens = 100, refill-period = "1s" }
/// bulkhead = { max-concurrent = 64 }
/// circuit-breaker = { consecutive-failures = 5 }
///
/// [admissions.staff.jwt]
/// hs256 = { env = "JWT_SECRET" }  # or: rs256-pem = { file = "key.pem" }, or: jwks = "https://id.example/keys"
/// issuers = ["https://id.example"]
/// audiences = ["shop"]
///
/// [admissions.partners.api-keys]
/// header = "x-api-key"
/// keys = [{ subject = "partner-7", key = { file = "/run/secrets/partner-7" } }]
///
/// [routes.orders.per-client]
/// max-clients = 10000
/// trust = ["10.0.0.0/8"]
/// rate-limiter = { max-tokens = 10, refill-tokens = 10, refill-period = "1m" }
/// ```
///
/// | key | meaning |
/// |---|---|
/// | `host`, `prefix`, `methods`, `strip`, `allow-encoded-slash`, `max-request-body` | the methods of [`Route`](crate::Route) with these names |
/// | `public`, `admit` | [`Route::public`](crate::Route::public); the name of an admission of the document, or one that [`bind`](Self::bind) has bound |
/// | `forward-identity`, `forward-credentials` | the methods of [`Route`](crate::Route) with these names |
/// | `upstream` | one of `urls`, `file`, `dns`, `dns-srv` and `registry`; `http2`, `http2-streams`, and `balance` with the keys of a [balancer](buttress::balance::Config) |
/// | `service` | the name of a service that [`bind_service`](Self::bind_service) has bound, in place of `upstream` |
/// | `split` | [`RouteSplit`](crate::RouteSplit): `upstream`, `share`, `salt`, `stick-by-subject`, `stick-by-header`, `force-by-header`, `fall-back`, `circuit-breaker` |
/// | `shadow` | [`RouteShadow`](crate::RouteShadow): `upstream`, `share`, `max-running`, `within`, `keep-one-in`, `compare-fields`, `max-compared-body`, `forward-credentials` |
/// | `rate-limiter`, `bulkhead`, `circuit-breaker`, `retry`, `time-limiter` | the keys of a [registry](buttress::registry) |
/// | `backend-honours-idempotency-keys`, `replay-buffer` | the methods of [`Route`](crate::Route) with these names |
/// | `per-client` | `rate-limiter`; `max-clients`, 10 000 unless given; `trust`, the networks of proxies in front |
///
/// A missing key has the default of its method. A retry without `attempts` makes 2. A duration is a text with a unit, e.g.
/// `"500ms"`, `"10s"` or `"2m"`, or a number of seconds, e.g. `5` or `0.5`. Unknown keys, names that occur twice, keys
/// without a value (`null`) and numbers that are not finite are errors with their path. Keys without an effect are
/// errors too, e.g. `replay-buffer` without a `retry` of at least 2 attempts, `insecure` without `jwks`, and `shadow`
/// on a route whose `methods` are not copied. An empty list of `methods` or `servers` is an error too.
///
/// Where the backends of an `upstream` come from:
///
/// | key | meaning |
/// |---|---|
/// | `urls` | a list of URLs |
/// | `file` | the path of a file of instances, as [`file`](buttress::discover::file()) reads it |
/// | `dns` | a host and a port: the addresses of a name, as [`dns`](crate::discover::dns()) finds them |
/// | `dns-srv` | the name of a service: its SRV records, with the feature `srv` |
/// | `registry` | `url` and `service`: the instances that a registry knows, with the feature `registry`. The proxy believes a registry of `https` by the `roots` of its [`Config`](crate::Config), as it believes backends |
/// | `every` | with `file`, `dns` or `dns-srv`: the longest time between two lookups, e.g. `"10s"` or `10`, from 1 second to 365 days; 5 seconds for a file and 30 seconds for names unless given |
/// | `servers` | with `dns-srv`: the name servers, e.g. `["10.0.0.53:53"]`; the name servers of the operating system unless given |
///
/// Apply a document with other backends than `urls` inside of a tokio runtime. Backends that cannot be found yet are no
/// error.
///
/// ```toml
/// [routes.orders]
/// public = true
/// upstream = { dns = "orders.internal:8001" }
///
/// [routes.orders.split]
/// upstream = { registry = { url = "http://10.0.0.2:8500", service = "orders" } }
/// share = 0.05
/// stick-by-header = "x-customer"
/// fall-back = true
///
/// [routes.orders.shadow]
/// upstream = { dns-srv = "_http._tcp.orders-next.internal." }
/// share = 0.01
/// compare-fields = ["content-type"]
/// max-compared-body = 262144      # bytes; 0: bodies are not compared
/// ```
///
/// The two shares are live: if nothing else of a section has changed, the route stays, and gets the new share. A share
/// that the document does not change stays as an operator has set it, whatever else of the section changes. The handles are
/// [`Handle::split`] and [`Handle::shadow`]. The handle of a split stays the same until the `salt` changes: another salt
/// chooses other requests, and begins with the share of the document. The handle of a shadow and its numbers stay the same
/// until `max-running`, `within` or `keep-one-in` changes.
///
/// The keys of an admission:
///
/// | key | meaning |
/// |---|---|
/// | `jwt` | `Jwt`, with the feature `jwt`: one of `hs256`, `rs256-pem` and `jwks`; `issuers`, `any-issuer`, `audiences`, `any-audience`, `scopes`, `insecure`, and `require`, a table of claims |
/// | `api-keys` | `ApiKeys`, with the feature `api-keys`: `header`, and `keys` with `subject`, one of `key` and `sha256`, and `until` in seconds since 1970 |
///
/// The document holds no credentials: `hs256`, `rs256-pem` and `key` are [`Secret`]s, which each [`Handle::apply`] reads
/// again. New API keys for the same `header` change no route. Any other change of an admission makes new
/// routes of the routes that use the admission.
#[derive(Clone, Debug, Default)]
pub struct Document {
    routes: BTreeMap<String, Value>,
    /// The sections of admissions.
    sections: BTreeMap<String, Value>,
    /// The admissions that the program has bound.
    bound: BTreeMap<String, Admits>,
    /// The services that the program has bound.
    services: BTreeMap<String, LocalService>,
}

impl Document {
    /// Binds the admission that the document calls `name`.
    ///
    /// Bind the same [`Arc`] again when the document is read again: a route with another admission is a new route. An
    /// admission of the document with the same name is an error of [`Handle::apply`].
    #[must_use]
    pub fn bind(mut self, name: impl Into<String>, admit: Arc<dyn Admit>) -> Self {
        self.bound.insert(name.into(), Admits(admit));
        self
    }

    /// Binds the service that the document calls `name`, for routes with the key `service`. See
    /// [`Route::to_service`](crate::Route::to_service).
    ///
    /// Bind a clone of the same [`LocalService`] again when the document is read again: a route to another service is a
    /// new route.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use buttress_edge::{Body, Config, Document, LocalService, Proxy};
    /// use http::{Request, Response};
    /// use tower::{BoxError, service_fn};
    ///
    /// let page = LocalService::new(service_fn(async |_: Request<Body>| {
    ///     Ok::<_, BoxError>(Response::new(Body::from("a page of many parts")))
    /// }));
    /// let text = r#"
    ///     [routes.page]
    ///     prefix = "/page"
    ///     public = true
    ///     service = "page"
    /// "#;
    /// let document = toml::from_str::<Document>(text)?.bind_service("page", page.clone());
    /// let gateway = Proxy::new(Config::new(), [])?;
    /// gateway.handle().apply(&document)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn bind_service(mut self, name: impl Into<String>, service: LocalService) -> Self {
        self.services.insert(name.into(), service);
        self
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(default, deny_unknown_fields, expecting = "a table of routes")]
        #[derive(Default)]
        struct File {
            #[serde(deserialize_with = "value::routes")]
            routes: Sections,
            #[serde(deserialize_with = "value::admissions")]
            admissions: Sections,
        }

        let File { routes, admissions: sections } = File::deserialize(deserializer)?;
        for (name, section) in &routes {
            read::<Section>("routes", name, section).map_err(D::Error::custom)?;
        }
        for (name, section) in &sections {
            read::<admission::Section>("admissions", name, section).map_err(D::Error::custom)?;
        }
        Ok(Self { routes, sections, ..Self::default() })
    }
}

/// Reads a section. An error has its path.
fn read<T: serde::de::DeserializeOwned>(
    part: &str,
    name: &str,
    section: &Value,
) -> Result<T, String> {
    serde_path_to_error::deserialize(section)
        .map_err(|error| format!("{part}.{name}.{}: {}", error.path(), error.inner()))
}

impl Handle {
    /// Makes the routes of `document` the routes of the proxy, or changes nothing if one of them, or an admission, is
    /// wrong.
    ///
    /// A route whose section has not changed since the last document stays. A changed section, or another admission, makes a
    /// new route, which continues the numbers. It keeps each part whose own section has not changed, with the state of the
    /// part: found backends with the measurements of the balancer, the tokens of limiters, the calls of a bulkhead, an
    /// open circuit, the budget of a retry. A circuit is new also if the backends change that it judges. See
    /// [`replace`](Self::replace) for the rest. A backend that cannot be reached is not an error.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use buttress_edge::{Config, Document, Proxy};
    ///
    /// let gateway = Proxy::new(Config::new(), [])?;
    /// let text = r#"
    ///     [routes.orders]
    ///     prefix = "/orders"
    ///     public = true
    ///     upstream = { urls = ["http://10.0.0.1:8001"] }
    /// "#;
    /// let document: Document = toml::from_str(text)?;
    /// let applied = gateway.handle().apply(&document)?;
    /// assert_eq!(applied.added, ["orders"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns an error for the first value that is out of its bounds, with its path, and for a credential that cannot
    /// be read. Also returns the errors of [`replace`](Self::replace).
    pub fn apply(&self, document: &Document) -> Result<Replaced, InvalidConfig> {
        // One document at a time.
        let mut applied = self.applied().0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = document.admissions(&applied.admissions, self.config())?;
        let mut routes = BTreeMap::new();
        for (name, section) in &document.routes {
            let before = applied.routes.get(name);
            let built = document.build(name, section, before, &next, self.config())?;
            routes.insert(name.clone(), built);
        }
        let replaced = self.replace(routes.values().map(|built| built.route.clone()))?;
        // Nothing can be wrong any more: the shares and the keys were checked.
        for built in routes.values() {
            built.set_shares()?;
        }
        let admissions = next.into_iter().map(|(name, next)| Ok((name, next.apply()?)));
        *applied = Parts { routes, admissions: admissions.collect::<Result<_, InvalidConfig>>()? };
        Ok(replaced)
    }
}
