//! [`RouteShadow`]: backends that get a copy of some requests of a route.

use buttress::InvalidConfig;
use buttress::shadow::{Config, Handle, Shadow};

use crate::forward::{ByAnswer, Compared, Mirror, Primary, SafeParcels};
use crate::upstream::Upstream;

/// The mirrored requests of a route.
pub(crate) type Mirrored = Shadow<Primary, Mirror, SafeParcels, Compared, ByAnswer>;

/// Backends that get a copy of some requests of a route, for [`Route::shadow`](crate::Route::shadow).
///
/// The client gets the answer of the route's own backends, as if there were no copy. A copy has the field `x-shadow: 1`,
/// and the same context without its deadline. The proxy removes this field from requests of clients, so a service can
/// believe it. A copy has no credentials unless [`forward_credentials`](Self::forward_credentials) says so. Its answer is read and dropped; a status that differs from the client's
/// is counted as a mismatch. The [handle](Handle) has the share and the numbers.
///
/// Copied are GET, HEAD and OPTIONS without a body and without `Upgrade`. A mirror that changes something at a GET
/// changes it a second time.
///
/// ```
/// use buttress::shadow::Config;
/// use buttress_edge::{Route, RouteShadow, Upstream};
///
/// let new = Upstream::fixed(["http://10.0.0.9:8001"])?;
/// let shadow = RouteShadow::new(new, Config::new().share(0.01))?;
/// let operator = shadow.handle();
/// let orders = Route::new("orders")
///     .to(Upstream::fixed(["http://10.0.0.1:8001"])?)
///     .shadow(shadow)
///     .public();
/// assert_eq!(operator.stats().different, 0);
/// # Ok::<(), buttress::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RouteShadow {
    pub(crate) upstream: Upstream,
    pub(crate) mirrored: Mirrored,
    pub(crate) forward_credentials: bool,
}

impl RouteShadow {
    /// Creates the mirror. Its requests are not repeated.
    ///
    /// # Errors
    /// Returns an error that names the first value of `config` that is out of its bounds.
    pub fn new(upstream: Upstream, config: Config) -> Result<Self, InvalidConfig> {
        let mirror = Mirror::new(upstream.clone());
        let mirrored = Shadow::new(Primary, mirror, SafeParcels, config)?;
        Ok(Self::over(upstream, mirrored))
    }

    /// Creates the mirror with the configuration, the share and the numbers of another one.
    #[cfg(feature = "document")]
    pub(crate) fn with_handle(upstream: Upstream, handle: &Handle) -> Self {
        let mirror = Mirror::new(upstream.clone());
        let mirrored = Shadow::with_handle(Primary, mirror, SafeParcels, handle);
        Self::over(upstream, mirrored)
    }

    fn over(upstream: Upstream, mirrored: Shadow<Primary, Mirror, SafeParcels>) -> Self {
        let mirrored = mirrored.compare(Compared).judge(ByAnswer);
        Self { upstream, mirrored, forward_credentials: false }
    }

    /// Sends the credentials of requests to the mirror too, if the route
    /// [forwards](crate::Route::forward_credentials) them to its own backends. Default: the mirror gets no `Authorization`
    /// and no field of API keys, because a service on trial should not see the tokens of customers.
    ///
    /// A mirror that checks credentials itself needs them to answer as the route's own backends do.
    pub fn forward_credentials(mut self) -> Self {
        self.forward_credentials = true;
        self
    }

    /// Returns the handle of the share and the numbers.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.mirrored.handle()
    }
}
