//! The routes of a proxy, and the values that are computed from all of them.

use std::sync::Arc;

use buttress::InvalidConfig;
use http::{HeaderValue, Method, request};

use super::target::authority;
use crate::answer::Failed;
use crate::headers::hop;
use crate::headers::named::OfCallers;
use crate::host;
use crate::path::{self, Allowed};
use crate::route::{Checked, Found, Route, Table, To};

/// The methods that a proxy can forward, for the answer to one that it cannot.
const FORWARDED: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// The routes of a proxy. They never change; a proxy replaces them as a whole.
pub(super) struct Routes {
    pub list: Vec<Arc<Checked>>,
    table: Table,
    of_callers: Arc<OfCallers>,
    allowed: Allowed,
}

impl Routes {
    /// Checks the routes.
    pub(super) fn new(routes: impl IntoIterator<Item = Route>) -> Result<Self, InvalidConfig> {
        let list: Result<Vec<_>, _> = routes.into_iter().map(Route::check).collect();
        let list = list?;
        let table = Table::new(&list)?;
        let allowed = Allowed { encoded_slash: list.iter().any(|route| route.encoded_slash) };
        let of_callers = Arc::new(OfCallers::of(&list));
        list.iter().try_for_each(|route| check_choice(route, &of_callers))?;
        let list = list.into_iter().map(Arc::new).collect();
        Ok(Self { list, table, of_callers, allowed })
    }

    /// Lets routes continue the numbers of the routes of their name in `before`.
    pub(super) fn continuing(mut self, before: &Self) -> Self {
        for route in &mut self.list {
            if let Some(same) = before.named(&route.name) {
                // No request has found the new route yet.
                if let Some(route) = Arc::get_mut(route) {
                    route.counters = Arc::clone(&same.counters);
                }
            }
        }
        self
    }

    pub(super) fn named(&self, name: &str) -> Option<&Checked> {
        self.list.iter().find(|route| route.name == name).map(|route| &**route)
    }

    /// Finds the route of a request and the host that the request names, or why it is refused.
    pub(super) fn find(
        routes: Arc<Self>,
        head: &request::Parts,
    ) -> Result<(At, Option<HeaderValue>), Failed> {
        if matches!(head.method, Method::CONNECT | Method::TRACE) {
            return Err(Failed::WrongMethod(FORWARDED.to_vec()));
        }
        let authority = authority(head)?;
        let path = head.uri.path().as_bytes();
        let matched = path::check(path, routes.allowed).map_err(Failed::Path)?;
        let name = match &authority {
            Some(value) => Some(host::normalize(value.as_bytes()).ok_or(Failed::Host)?),
            None => None,
        };
        let route = match routes.table.find(name.as_deref(), &matched, &head.method) {
            Found::Route(index) => Arc::clone(routes.list.get(index).ok_or(Failed::NoRoute)?),
            Found::WrongMethod(methods) => return Err(Failed::WrongMethod(methods)),
            Found::Nothing => return Err(Failed::NoRoute),
        };
        if routes.allowed.encoded_slash && !route.encoded_slash {
            path::check(path, Allowed::default()).map_err(Failed::Path)?;
        }
        Ok((At { routes, route }, authority))
    }
}

/// Refuses a split whose fields the proxy removes before it chooses a side: each request would get its side at random.
fn check_choice(route: &Checked, of_callers: &OfCallers) -> Result<(), InvalidConfig> {
    let To::Backends(backends) = &route.to else { return Ok(()) };
    let fields = backends.split.iter().flat_map(|sides| sides.choice.fields());
    for (key, name) in fields {
        if hop::is_removed(name.as_str()) || of_callers.is_identity(name.as_str()) {
            let key = format!("routes.{}.split.{key}", route.name);
            let bound =
                "a field that clients set: no field of one connection, and of no caller's identity";
            return Err(InvalidConfig::new(key, format!("{:?}", name.as_str()), bound));
        }
    }
    Ok(())
}

/// A route, and the routes of the proxy when the request found it.
pub(super) struct At {
    routes: Arc<Routes>,
    route: Arc<Checked>,
}

impl At {
    pub(super) fn route(&self) -> &Checked {
        &self.route
    }

    pub(super) fn of_callers(&self) -> &Arc<OfCallers> {
        &self.routes.of_callers
    }
}
