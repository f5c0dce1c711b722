//! [`RouteShadow`]: the settings of the backends that get a copy of some requests of a route. `forward/parcel.rs` sends
//! the copies, and `forward/compared.rs` compares the answers.

use std::sync::Arc;

use buttress::__setters as setters;
use buttress::InvalidConfig;
use buttress::shadow::{Config, Handle, NotCompared, Shadow};
use http::{HeaderName, Method};

use super::mismatches::{Mismatches, ShadowMismatches};
use crate::forward::{ByAnswer, Comparing, Mirror, Primary, SafeParcels};
use crate::headers::{hop, named};
use crate::upstream::Upstream;

/// The mirrored requests of a route. The comparison of each request is added later.
pub(crate) type Mirrored = Shadow<Primary, Mirror, SafeParcels, NotCompared, ByAnswer>;

/// The most fields that are compared.
const FIELDS: usize = 32;
/// The longest body that is compared unless the route says otherwise, in bytes.
const DEFAULT: u64 = 1 << 20;
/// The greatest limit that a route may set for it.
const LONGEST: u64 = 1 << 30;

/// Backends that get a copy of some requests of a route, for [`Route::shadow`](crate::Route::shadow).
///
/// The client gets the answer of the route's own backends, as if there were no copy. A copy has the field `x-shadow:
/// 1`, and the same context without its deadline. The proxy removes this field from requests of clients, so a service
/// can believe it.
///
/// A copy has no `Authorization`, no `Cookie`, no `X-API-Key`, and no field that the [`Admit`](crate::Admit) of any
/// route [names](crate::Admit::credentials), unless [`forward_credentials`](Self::forward_credentials) says so. A
/// credential in the target, e.g. in a query, reaches the mirror, and a credential in any other field too.
///
/// Copied are GET, HEAD and OPTIONS without a body and without `Upgrade`. A mirror that changes something at a GET
/// changes it a second time. A route with other methods only is an error of [`Proxy::new`](crate::Proxy::new).
///
/// # Comparison
/// The proxy compares the status, the fields of [`compare_fields`](Self::compare_fields), and the bodies up to
/// [`max_compared_body`](Self::max_compared_body), in this order. It keeps digests (SHA-256) and no data of the answers.
/// A copy begins when the head of the client's answer is there, and the comparison waits for the ends of both bodies in
/// a task of the copy. So no mirror delays a client. The client's body is hashed on the client's task, which takes time
/// in proportion to its length.
///
/// | answers | result in the [`Stats`](buttress::shadow::Stats) |
/// |---|---|
/// | status, fields and body are equal, or both sides failed | `same` |
/// | one of them differs, or only one side failed | `different`, and one of [`mismatches`](Self::mismatches) |
/// | a body broke off, or the client left before the end of its answer | `incomparable` |
/// | both bodies are longer than the limit | `incomparable` |
/// | one body is longer than the limit, and the other one is not | `different` |
/// | a body has a `Content-Encoding`, and the bytes differ | `incomparable`: equal content can be coded in several ways |
/// | the proxy could not send the copy: no backend took it, or no file descriptor was free | `incomparable` |
/// | a stream without an end, such as server-sent events, with equal heads | `timed_out` after [`within`](Config::within) |
/// | HEAD, and answers with 204 or 304 | only status and fields are compared |
///
/// Trailers are not compared. Calls of gRPC are not copied, because they are POST. A mirror judges `If-None-Match` and
/// `Range` by its own data: compare routes whose services have the same `ETag`, or leave out what clients cache.
///
/// A mismatch is a log line with what differed: the statuses, the name of a field, or the kind of a failure. It has no
/// value of a field, nothing of a body and no address. [`keep_one_in`](Config::keep_one_in) limits these lines.
///
/// In the [numbers](Upstream::stats) of the mirror a copy is `abandoned` if the proxy does not read its answer to the
/// end. The proxy stops at a body that is too long, and at the limit of the copy. Where the heads decide, it stops
/// after 64 KiB or 1 second.
///
/// ```
/// use buttress::shadow::Config;
/// use buttress_edge::{Route, RouteShadow, Upstream};
///
/// let new = Upstream::fixed(["http://10.0.0.9:8001"])?;
/// let shadow = RouteShadow::new(new, Config::new().share(0.01))?
///     .compare_fields(["content-type", "cache-control"])
///     .max_compared_body(256 * 1024);
/// let operator = shadow.clone();
/// let orders = Route::new("orders")
///     .to(Upstream::fixed(["http://10.0.0.1:8001"])?)
///     .shadow(shadow)
///     .public();
/// assert_eq!(operator.handle().stats().different, 0);
/// assert_eq!(operator.mismatches().body, 0);
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RouteShadow {
    pub(crate) upstream: Upstream,
    mirrored: Mirrored,
    fields: Vec<String>,
    max_body: u64,
    mismatches: Arc<Mismatches>,
    pub(crate) forward_credentials: bool,
}

/// The mirror of a route that was checked.
#[derive(Debug)]
pub(crate) struct Checked {
    pub upstream: Upstream,
    pub mirrored: Mirrored,
    pub comparing: Arc<Comparing>,
    pub forward_credentials: bool,
}

impl RouteShadow {
    /// Creates the mirror. Its requests are not repeated.
    ///
    /// # Errors
    /// Returns an error that names the first value of `config` that is out of its bounds.
    pub fn new(upstream: Upstream, config: Config) -> Result<Self, InvalidConfig> {
        let mirror = Mirror::new(upstream.clone());
        let mirrored = Shadow::new(Primary, mirror, SafeParcels, config)?.judge(ByAnswer);
        let (fields, mismatches) = (Vec::new(), Arc::default());
        let forward_credentials = false;
        Ok(Self { upstream, mirrored, fields, max_body: DEFAULT, mismatches, forward_credentials })
    }

    /// Creates the mirror with the configuration, the share and the numbers of `before`, and with the comparison and
    /// the credentials of a new one.
    #[cfg(feature = "document")]
    pub(crate) fn continuing(upstream: Upstream, before: &Self) -> Self {
        let mirror = Mirror::new(upstream.clone());
        let mirrored = Shadow::with_handle(Primary, mirror, SafeParcels, &before.handle());
        let mirrored = mirrored.judge(ByAnswer);
        let (fields, mismatches) = (Vec::new(), Arc::clone(&before.mismatches));
        let forward_credentials = false;
        Self { upstream, mirrored, fields, max_body: DEFAULT, mismatches, forward_credentials }
    }

    setters! {
        /// Compares these fields of the answers too, each with all of its values in their order. Default: none, because
        /// a new service may set other fields. At most 32.
        ///
        /// A name that is not a field, a field of one connection such as `Keep-Alive`, `Via`, and a field that differs
        /// between two equal answers are errors of [`Proxy::new`](crate::Proxy::new). The last ones are `Date` and the
        /// fields of a [context](buttress_http::context), such as `X-Request-Id`.
        compare_fields(fields: impl IntoIterator<Item = impl Into<String>>)
            sets fields => fields.into_iter().map(Into::into).collect();

        /// Sets the longest body that is compared, in bytes. Default: 1 MiB, so that a large answer costs the mirror
        /// and the proxy no more than that. From 0 to 1 GiB; a larger value is an error of
        /// [`Proxy::new`](crate::Proxy::new).
        ///
        /// With 0 bodies are not compared. Say so for routes whose answers contain a time or an id, and for streams
        /// without an end.
        max_compared_body(bytes: u64) sets max_body;
    }

    /// Sends the mirror the credentials that the route's own backends get. Default: the mirror gets none of them,
    /// because a service on trial should not see the sessions, keys and tokens of customers.
    ///
    /// The route's own backends get `Cookie` and `X-API-Key`. They get `Authorization`, and the fields that the
    /// [`Admit`](crate::Admit) of any route [names](crate::Admit::credentials), only if the route
    /// [forwards](crate::Route::forward_credentials) them. A mirror that checks credentials itself needs them to answer
    /// as the route's own backends do.
    pub fn forward_credentials(mut self) -> Self {
        self.forward_credentials = true;
        self
    }

    /// Returns the handle of the share and the numbers.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.mirrored.handle()
    }

    /// Returns the answers that differed, by what differed first. All clones count together.
    #[must_use]
    pub fn mismatches(&self) -> ShadowMismatches {
        self.mismatches.stats()
    }

    /// Checks the mirror of a route with these methods. `methods` is empty for all methods. An error has its path below
    /// the route.
    pub(super) fn check(self, methods: &[Method]) -> Result<Checked, InvalidConfig> {
        if !methods.is_empty() && !methods.iter().any(SafeParcels::copies) {
            let bound = "set on a route with GET, HEAD or OPTIONS: no other request is copied";
            let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
            let value = format!("set on a route with {}", methods.join(", "));
            return Err(InvalidConfig::new("shadow", value, bound));
        }
        if self.max_body > LONGEST {
            let bound = "from 0 to 1073741824 bytes";
            return Err(InvalidConfig::new("shadow.max-compared-body", self.max_body, bound));
        }
        if self.fields.len() > FIELDS {
            let value = format!("{} fields", self.fields.len());
            return Err(InvalidConfig::new("shadow.compare-fields", value, "at most 32 fields"));
        }
        let fields = self.fields.iter().map(|given| {
            let name = given.parse().ok().filter(|name| !always_differs(name));
            name.ok_or_else(|| {
                let bound = "fields of an answer, without those of one connection, `via`, `date`, and request ids";
                InvalidConfig::new("shadow.compare-fields", format!("{given:?}"), bound)
            })
        });
        let fields = fields.collect::<Result<_, _>>()?;
        let comparing = Comparing { fields, max_body: self.max_body, mismatches: self.mismatches };
        Ok(Checked {
            upstream: self.upstream,
            mirrored: self.mirrored,
            comparing: Arc::new(comparing),
            forward_credentials: self.forward_credentials,
        })
    }
}

/// Whether a field is different in two equal answers, or is no part of them.
fn always_differs(name: &HeaderName) -> bool {
    let name = name.as_str();
    hop::is_removed(name) || named::is_of_context(name) || matches!(name, "date" | "via")
}
