//! [`Ready`]: the readiness of a route's backends, for the health of the gateway.

mod state;

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use buttress::InvalidConfig;
use buttress::health::{Finding, Watch};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use super::{Proxy, Shared};
use crate::forward::{Head, Sending, probe};
use crate::path::{self, Allowed};
use crate::race::both;
use crate::route::{Backends, Sides, To};

/// The time of the backends of a side. A check takes at most 5 seconds by default, and one side that hangs must not hide
/// the answer of the other.
const SIDE: Duration = Duration::from_secs(4);

/// The readiness of a route: whether the backends are ready that it needs. Made by [`Proxy::ready`].
///
/// ```no_run
/// use buttress::health::{Health, Importance};
/// # fn run(gateway: &buttress_edge::Proxy) -> Result<(), buttress::InvalidConfig> {
/// let health = Health::new("gateway", "1.0.0")
///     .watch("orders", Importance::Critical, gateway.ready("orders"))?
///     .watch("prices", Importance::High, gateway.ready("prices"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Ready {
    shared: Arc<Shared>,
    route: String,
    path: PathAndQuery,
}

impl Proxy {
    /// Returns a check of a route's backends, for [`Health::watch`](buttress::health::Health::watch).
    ///
    /// Each run asks the backends for `/ready`, until one answers with 2xx. The route is UP then. The next backend is asked
    /// once those before it have failed, or have not answered within their share of 4 seconds: 2 seconds of two backends.
    /// Their late answers count too. The route is DOWN if no backend answers with 2xx within 4 seconds, and UNKNOWN if the proxy has no route of this name. The limits of the route do not
    /// count these requests. The balancer and the numbers of the backends count them as they count others.
    ///
    /// A route with a [`split`](crate::Route::split) needs the sides that its current share sends requests to: the old
    /// side below 1, and the new side above 0. It is UP if all of these are ready, DEGRADED if one of two is, and DOWN
    /// otherwise. If only the new side is needed and is not ready, the old side is asked too where the route
    /// [falls back](crate::RouteSplit::fall_back): the route is DEGRADED then if the old side is ready. Each side has 4
    /// seconds. Requests that choose their side, the circuit of the new side, and mirrors change nothing.
    ///
    /// A route to a [service](crate::Route::to_service) is UP if a clone of the service becomes ready, and DOWN if it
    /// fails. The path is not asked for.
    pub fn ready(&self, route: impl Into<String>) -> Ready {
        let path = PathAndQuery::from_static("/ready");
        Ready { shared: Arc::clone(&self.shared), route: route.into(), path }
    }
}

impl Ready {
    /// Sets the path that is asked for. Default: `/ready`. The path of a backend's URL goes before it.
    ///
    /// # Errors
    /// Returns an error if `path` is not an unambiguous absolute path.
    pub fn path(mut self, path: &str) -> Result<Self, InvalidConfig> {
        let is_clear = path::check(path.as_bytes(), Allowed::default()).is_ok();
        let parsed = path.parse().ok().filter(|_| is_clear);
        self.path = parsed.ok_or_else(|| {
            InvalidConfig::new("path", format!("{path:?}"), "an unambiguous absolute path")
        })?;
        Ok(self)
    }
}

impl Watch for Ready {
    async fn look(&self) -> Finding {
        let routes = self.shared.routes();
        let Some(route) = routes.named(&self.route) else {
            return Finding::unknown("the proxy has no route of this name");
        };
        let backends = match &route.to {
            To::Backends(backends) => backends,
            To::Service(service) => {
                let ready = service.ready().await;
                let ready = ready.map_err(|error| format!("the service is not ready: {error}"));
                return state::finding([state::Answer { side: None, ready: Some(ready) }]);
            }
        };
        let Backends { sending, split, .. } = &**backends;
        let old = self.ask(sending);
        match split {
            None => state::finding([state::Answer { side: None, ready: Some(old.await) }]),
            Some(sides) => self.ask_sides(old, sides).await,
        }
    }
}

impl Ready {
    /// Asks the backends of one side.
    async fn ask(&self, sending: &Sending) -> Result<(), String> {
        let head = Head {
            method: Method::GET,
            target: self.path.clone(),
            headers: HeaderMap::new(),
            carries_context: false,
            upgrades: false,
        };
        probe(&self.shared.forwarder, sending, head, SIDE).await
    }

    /// Asks the sides that the current share needs, concurrently.
    async fn ask_sides(
        &self,
        old: impl Future<Output = Result<(), String>>,
        sides: &Sides,
    ) -> Finding {
        let share = sides.handle.stats().share;
        let needs = state::Needs::of(share);
        let old = pin!(old);
        let new = self.ask(&sides.sending);
        let new = pin!(async { if needs.new { Some(new.await) } else { None } });
        let (old, new) = if needs.old {
            let (old, new) = both(old, new).await;
            (Some(old), new)
        } else {
            let new = new.await;
            let is_ready = matches!(new, Some(Ok(())));
            let asks_old = sides.falls_back && !is_ready;
            (if asks_old { Some(old.await) } else { None }, new)
        };
        let answer = |side, ready| state::Answer { side: Some(side), ready };
        state::finding([answer("old", old), answer("new", new)])
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route, path, .. } = self;
        f.debug_struct("Ready").field("route", route).field("path", path).finish_non_exhaustive()
    }
}
