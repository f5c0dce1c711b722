use std::fmt;
use std::sync::Arc;

use crate::machinery::counters::{Counters, counters};
use crate::vocabulary::error::{Error, ErrorKind};
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::Common;
use crate::{rate_limit, time_limit};

counters! {
    /// How a request of a route can end, and that it began.
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
        /// It has not ended.
        Begun,
    }
}

counters! {
    /// The counters of a gateway without a route.
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
            // Nothing else refuses.
            _ => Self::TimedOut,
        }
    }
}

/// What is counted of a gateway.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) name: Name,
    pub(super) common: Common,
    pub(super) routes: Vec<CountedRoute>,
    pub(super) no_route: Counters<{ Unrouted::COUNT }, Unrouted>,
}

/// What is counted of a route, and its parts that can be looked at.
#[derive(Debug)]
pub(super) struct CountedRoute {
    pub(super) name: Name,
    pub(super) common: Common,
    pub(super) rate_limit: Option<rate_limit::Handle>,
    pub(super) time_limit: Option<time_limit::Handle>,
    pub(super) counters: Counters<{ End::COUNT }, End>,
    /// Requests that went to each backend.
    pub(super) backends: Vec<Counters<{ OfBackend::COUNT }, OfBackend>>,
}

/// One request, counted once: as how it ended, or as abandoned.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) counted: Arc<Counted>,
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

impl Drop for Request {
    fn drop(&mut self) {
        self.end(End::Abandoned);
    }
}

/// The operator's view of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) counted: Arc<Counted>,
}

impl Handle {
    /// Returns the limiter of a route, if it has one.
    #[must_use]
    pub fn rate_limit(&self, route: &str) -> Option<&rate_limit::Handle> {
        self.route(route)?.rate_limit.as_ref()
    }

    /// Returns the time limit of a route, if it has one.
    #[must_use]
    pub fn time_limit(&self, route: &str) -> Option<&time_limit::Handle> {
        self.route(route)?.time_limit.as_ref()
    }

    fn route(&self, name: &str) -> Option<&CountedRoute> {
        self.counted.routes.iter().find(|route| route.name.as_str() == name)
    }

    /// Returns the numbers as they are now.
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
            // Last, so that no more have ended than begun.
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

/// A snapshot of a gateway: `begun` is `no_route` and the `begun` of all routes.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// Requests that came.
    pub begun: u64,
    /// Requests no route was for.
    pub no_route: u64,
    /// The routes, in the order in which they were given.
    pub routes: Vec<RouteStats>,
}

/// A snapshot of a route: `begun` is all that has ended, in one way each, and what is still
/// [in flight](Self::in_flight).
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RouteStats {
    /// Its name.
    pub name: Name,
    /// Requests that came to it.
    pub begun: u64,
    /// A backend answered.
    pub answered: u64,
    /// A backend returned an error.
    pub failed: u64,
    /// The authorization service did not let it through: `unauthenticated` and `forbidden` together.
    pub unauthorized: u64,
    /// The authorization service does not know who is asking.
    pub unauthenticated: u64,
    /// The authorization service knows who is asking, and denied it.
    pub forbidden: u64,
    /// The authorization service failed.
    pub auth_unavailable: u64,
    /// The limiter refused it.
    pub rate_limited: u64,
    /// Every backend failed to become ready.
    pub no_backend: u64,
    /// Its time limit passed.
    pub timed_out: u64,
    /// The caller went away, or somebody panicked.
    pub abandoned: u64,
    /// How many requests went to each backend, in the order in which they were given.
    pub backends: Vec<u64>,
}

impl RouteStats {
    /// Requests that have not ended.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let refused =
            self.unauthorized + self.auth_unavailable + self.rate_limited + self.no_backend;
        let ended = self.answered + self.failed + self.timed_out + self.abandoned + refused;
        self.begun.saturating_sub(ended)
    }
}
