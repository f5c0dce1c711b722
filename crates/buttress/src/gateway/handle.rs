use std::fmt;
use std::sync::Arc;

use crate::machinery::counters::{Counters, counters};
use crate::machinery::guard::Guard;
use crate::vocabulary::error::{Error, ErrorKind};
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::Common;
use crate::vocabulary::reading::snapshot;
use crate::{rate_limit, time_limit};

counters! {
    /// The ends of a route's requests, and their begin.
    pub(super) enum End {
        Answered,
        Failed,
        Unauthenticated,
        Forbidden,
        AuthUnavailable,
        RateLimited,
        NoBackend,
        TimedOut,
        Abandoned,
        /// The request has begun.
        Begun,
    }
}

counters! {
    /// The counters of requests without a route.
    pub(super) enum Unrouted {
        NoRoute,
    }
}

counters! {
    /// The counters of a backend.
    pub(super) enum OfBackend {
        Requests,
    }
}

impl End {
    pub(super) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Unauthenticated => Self::Unauthenticated,
            ErrorKind::Forbidden => Self::Forbidden,
            ErrorKind::AuthUnavailable => Self::AuthUnavailable,
            ErrorKind::RateLimited => Self::RateLimited,
            ErrorKind::NoBackend => Self::NoBackend,
            // No other part refuses.
            _ => Self::TimedOut,
        }
    }
}

/// The counters of a gateway.
#[derive(Debug)]
pub(super) struct Counted {
    pub name: Name,
    pub common: Common,
    pub routes: Vec<CountedRoute>,
    pub no_route: Counters<Unrouted>,
}

/// The counters of a route, and the handles of its parts.
#[derive(Debug)]
pub(super) struct CountedRoute {
    pub name: Name,
    pub common: Common,
    pub rate_limit: Option<rate_limit::Handle>,
    pub time_limit: Option<time_limit::Handle>,
    pub counters: Counters<End>,
    /// Requests sent to each backend.
    pub backends: Vec<Counters<OfBackend>>,
}

/// One request, counted once: by its end, or as abandoned.
#[derive(Debug)]
pub(super) struct Request {
    pub counted: Arc<Counted>,
    route: usize,
    over: bool,
}

impl Request {
    pub(super) fn begin(counted: Arc<Counted>, route: usize) -> Self {
        let request = Self { counted, route, over: false };
        request.add(End::Begun);
        request
    }

    pub(super) fn end(&mut self, end: End) {
        if !std::mem::replace(&mut self.over, true) {
            self.add(end);
        }
    }

    fn add(&self, which: End) {
        if let Some(route) = self.counted.routes.get(self.route) {
            route.counters.add(which);
        }
    }
}

impl Guard for Request {
    fn give_back(&mut self) {
        self.end(End::Abandoned);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The handle of a gateway and the parts of its routes, for operators. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) counted: Arc<Counted>,
}

impl Handle {
    /// Returns the handle of a route's limiter. `None` if the route does not exist or has no
    /// limiter.
    #[must_use]
    pub fn rate_limit(&self, route: &str) -> Option<&rate_limit::Handle> {
        self.route(route)?.rate_limit.as_ref()
    }

    /// Returns the handle of a route's time limit. `None` if the route does not exist or has no
    /// time limit.
    #[must_use]
    pub fn time_limit(&self, route: &str) -> Option<&time_limit::Handle> {
        self.route(route)?.time_limit.as_ref()
    }

    fn route(&self, name: &str) -> Option<&CountedRoute> {
        self.counted.routes.iter().find(|route| route.name.as_str() == name)
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let routes: Vec<RouteStats> = self.counted.routes.iter().map(CountedRoute::stats).collect();
        let no_route = self.counted.no_route.sum(Unrouted::NoRoute);
        let begun = no_route + routes.iter().map(|route| route.begun).sum::<u64>();
        Stats { begun, no_route, routes }
    }
}

impl CountedRoute {
    fn stats(&self) -> RouteStats {
        let sum = |end: End| self.counters.sum(end);
        let (unauthenticated, forbidden) = (sum(End::Unauthenticated), sum(End::Forbidden));
        RouteStats {
            name: self.name,
            answered: sum(End::Answered),
            failed: sum(End::Failed),
            unauthorized: unauthenticated + forbidden,
            unauthenticated,
            forbidden,
            auth_unavailable: sum(End::AuthUnavailable),
            rate_limited: sum(End::RateLimited),
            no_backend: sum(End::NoBackend),
            timed_out: sum(End::TimedOut),
            abandoned: sum(End::Abandoned),
            // Read last, so that the ended requests never outnumber the begun ones.
            begun: self.counters.sum(End::Begun),
            backends: self
                .backends
                .iter()
                .map(|backend| backend.sum(OfBackend::Requests))
                .collect(),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.counted.name)
            .field("stats", &self.stats())
            .finish()
    }
}

snapshot! {
    /// A snapshot of a gateway. `begun` is the sum of `no_route` and of the `begun` of all routes.
    pub struct Stats: Eq {
        /// Requests that arrived.
        pub begun: u64,
        /// Requests without a route.
        pub no_route: u64,
        /// The routes, in the order of their definition.
        pub routes: Vec<RouteStats>,
    }
}

snapshot! {
    /// A snapshot of a route. `begun` is the sum of all ended requests, each with one end, and of the
    /// requests [in flight](Self::in_flight).
    pub struct RouteStats: Eq {
        /// The name of the route.
        pub name: Name,
        /// Requests that arrived at the route.
        pub begun: u64,
        /// Requests that a backend answered.
        pub answered: u64,
        /// Requests for which a backend returned an error.
        pub failed: u64,
        /// Requests that the authorization service refused: the sum of `unauthenticated` and
        /// `forbidden`.
        pub unauthorized: u64,
        /// Requests without valid credentials.
        pub unauthenticated: u64,
        /// Requests of a known caller that the authorization service denied.
        pub forbidden: u64,
        /// Requests refused because the authorization service failed.
        pub auth_unavailable: u64,
        /// Requests that the limiter refused.
        pub rate_limited: u64,
        /// Requests refused because every backend failed to become ready.
        pub no_backend: u64,
        /// Requests that were cancelled at the time limit.
        pub timed_out: u64,
        /// Requests that the caller dropped, or that panicked.
        pub abandoned: u64,
        /// Requests sent to each backend, in the order of the backends' definition.
        pub backends: Vec<u64>,
    }
}

impl RouteStats {
    /// Returns how many requests have not ended.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let refused =
            self.unauthorized + self.auth_unavailable + self.rate_limited + self.no_backend;
        let ended = self.answered + self.failed + self.timed_out + self.abandoned + refused;
        self.begun.saturating_sub(ended)
    }
}
