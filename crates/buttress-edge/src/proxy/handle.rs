//! [`Handle`]: changes the routes of a running proxy.

use std::fmt;
use std::sync::{Arc, PoisonError};

use buttress::{InvalidConfig, shadow, split};

use super::Shared;
use super::routes::Routes;
use crate::route::{Backends, Route, ShadowMismatches, To};
use crate::upstream::Upstream;

/// The handle of a [`Proxy`](crate::Proxy), which changes its routes while it runs. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// The changes of [`Handle::replace`], by the names of the routes.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Replaced {
    /// Routes with a new name.
    pub added: Vec<String>,
    /// Routes whose name the proxy had already. They continue its numbers.
    pub continued: Vec<String>,
    /// Routes that the proxy does not have any more.
    pub removed: Vec<String>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    #[cfg(feature = "document")]
    pub(crate) fn applied(&self) -> &crate::document::Applied {
        &self.shared.applied
    }

    #[cfg(feature = "document")]
    pub(crate) fn config(&self) -> &crate::Config {
        &self.shared.config
    }

    /// Returns the backends of a route: the old side, if the route has a [split](crate::Route::split). `None` without such
    /// a route, and for a route to a service.
    ///
    /// It has the [numbers](Upstream::stats) of each backend, and the [handle](Upstream::handle) of their balancer, which
    /// shows the age of a set that a resolver finds, and marks a backend as down.
    #[must_use]
    pub fn upstream(&self, route: &str) -> Option<Upstream> {
        self.backends(route).map(|backends| Upstream::clone(&backends.sending.upstream))
    }

    /// Returns the backends of the new side of a route's [split](crate::Route::split). `None` without such a route or
    /// split.
    #[must_use]
    pub fn new_side(&self, route: &str) -> Option<Upstream> {
        let backends = self.backends(route)?;
        backends.split.as_ref().map(|sides| Upstream::clone(&sides.sending.upstream))
    }

    /// Returns the backends of a route's [shadow](crate::Route::shadow). `None` without such a route or shadow.
    #[must_use]
    pub fn mirror(&self, route: &str) -> Option<Upstream> {
        self.backends(route)?.shadow.as_ref().map(|shadow| shadow.upstream.clone())
    }

    fn backends(&self, route: &str) -> Option<Arc<Backends>> {
        match &self.shared.routes().named(route)?.to {
            To::Backends(backends) => Some(Arc::clone(backends)),
            To::Service(_) => None,
        }
    }

    /// Returns the handle of the share of a route's [split](crate::Route::split). `None` without such a route or split.
    #[must_use]
    pub fn split(&self, route: &str) -> Option<split::Handle> {
        self.backends(route)?.split.as_ref().map(|sides| sides.handle.clone())
    }

    /// Returns the handle of a route's [shadow](crate::Route::shadow). `None` without such a route or shadow.
    #[must_use]
    pub fn shadow(&self, route: &str) -> Option<shadow::Handle> {
        self.backends(route)?.shadow.as_ref().map(|shadow| shadow.mirrored.handle())
    }

    /// Returns the answers of a route's [shadow](crate::Route::shadow) that differed, by kind. `None` without such a route or
    /// shadow.
    #[must_use]
    pub fn shadow_mismatches(&self, route: &str) -> Option<ShadowMismatches> {
        self.backends(route)?.shadow.as_ref().map(|shadow| shadow.comparing.mismatches.stats())
    }

    /// Replaces all routes, or changes nothing if one of them is wrong.
    ///
    /// A request in flight ends by the rules under which it began. A route continues the numbers of the route that had
    /// its name. Limits, circuits, budgets of retries and balancers are values of the routes: a clone of a [`Route`],
    /// and a new route with the same handles and the same [`Upstream`](crate::Upstream), keep their state. So keep the
    /// routes, and pass clones of the routes that do not change.
    ///
    /// # Errors
    /// Returns the errors of [`Proxy::new`](crate::Proxy::new) about routes.
    pub fn replace(
        &self,
        routes: impl IntoIterator<Item = Route>,
    ) -> Result<Replaced, InvalidConfig> {
        let new = Routes::new(routes)?;
        let mut present = self.shared.routes.write().unwrap_or_else(PoisonError::into_inner);
        let new = new.continuing(&present);
        let names = |routes: &Routes, other: &Routes, is_there: bool| {
            let mut found = Vec::new();
            for route in &routes.list {
                if other.named(&route.name).is_some() == is_there {
                    found.push(route.name.clone());
                }
            }
            found
        };
        let replaced = Replaced {
            added: names(&new, &present, false),
            continued: names(&new, &present, true),
            removed: names(&present, &new, false),
        };
        let old = std::mem::replace(&mut *present, Arc::new(new));
        drop(present);
        // After the lock is released: an admission of a user may be dropped.
        drop(old);
        Ok(replaced)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("routes", &self.shared.routes().list).finish_non_exhaustive()
    }
}
