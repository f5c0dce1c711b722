use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::backends::Backends;
use super::future::{ResponseFuture, Sent, Stop};
use super::handle::{Counted, CountedRoute, Handle, OfBackend, Request, Unrouted};
use super::observer::Slot;
use super::route::{Authorize, Decision, Route};
use crate::machinery::counters::Counters;
use crate::rate_limit::RateLimitLayer;
use crate::time_limit::{self, TimeLimitLayer};
use crate::vocabulary::causes::with_causes;
use crate::vocabulary::clock::Clock;
use crate::vocabulary::error::{Error, ErrorKind};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::{Common, Observer};
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::reject::{AsError, Reject};

/// A service that sends each request to the backends of its route. Cheap to clone. The
/// [module](super) explains the pattern.
///
/// All clones share one state.
pub struct Gateway<Req, S, X, R = AsError>
where
    S: Service<Req>,
{
    routes: Arc<Routes<Req, S>>,
    counted: Arc<Counted>,
    observer: Slot,
    extract: X,
    reject: R,
}

struct Routes<Req, S: Service<Req>> {
    routes: Vec<Built<Req, S>>,
    /// Boxes the work of a request, so it needs `Req: 'static` and `S: 'static`. The service must not ask for
    /// that: the check that an async block is `Send` forgets it of a boxed backend. The constructor knows it.
    begin: Begin<Req, S>,
}

type Begin<Req, S> = fn(
    Arc<Routes<Req, S>>,
    Arc<Counted>,
    usize,
    Req,
) -> Sent<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;

/// A route with its parts.
struct Built<Req, S> {
    authorize: Option<Authorize<Req>>,
    backends: Backends<S>,
}

impl<Req, S, X> Gateway<Req, S, X>
where
    Req: Send + 'static,
    S: Service<Req, Response: Send, Error: Send, Future: Send> + Clone + Send + 'static,
    X: Fn(&Req) -> Option<&str>,
{
    /// Creates a gateway over `routes`. `extract` returns the name of the route that a request
    /// belongs to.
    ///
    /// # Errors
    /// Returns an error if there are no routes, and for two routes with one name, a route without a backend, or a limit
    /// that is out of its bounds.
    pub fn new(
        name: impl Into<Name>,
        clock: Clock,
        extract: X,
        routes: impl IntoIterator<Item = Route<Req, S>>,
    ) -> Result<Self, InvalidConfig> {
        let (mut built, mut counted): (Vec<Built<Req, S>>, Vec<CountedRoute>) = Default::default();
        let observer = Slot::default();
        let common = |name, pattern| {
            let common = Common { name, observer: Some(observer.shared()), ..Common::default() };
            common.of(pattern)
        };
        for route in routes {
            let name = route.name;
            if counted.iter().any(|known| known.name == name) {
                return Err(InvalidConfig::new("routes", name, "a name no other route has"));
            }
            if route.backends.is_empty() {
                return Err(InvalidConfig::new(format!("{name}.backends"), 0, "at least 1"));
            }
            let rate_limit = match route.rate_limit {
                Some(config) => {
                    let config = config.name(name).clock(clock.clone());
                    let config = config.observed_by(observer.shared());
                    Some(RateLimitLayer::new(config)?.handle())
                }
                None => None,
            };
            let time_limit = match route.time_limit {
                Some(limit) => {
                    let config = time_limit::Config::new(limit).name(name).clock(clock.clone());
                    let config = config.observer(observer.clone());
                    Some(TimeLimitLayer::new(config)?.handle())
                }
                None => None,
            };
            counted.push(CountedRoute {
                name,
                common: common(name, Pattern::Route),
                rate_limit,
                time_limit,
                counters: Counters::new(),
                backends: route.backends.iter().map(|_| Counters::new()).collect(),
            });
            let backends = Backends::new(route.backends);
            built.push(Built { authorize: route.authorize, backends });
        }
        if built.is_empty() {
            return Err(InvalidConfig::new("routes", 0, "at least 1"));
        }
        let name = name.into();
        let common = common(name, Pattern::Gateway);
        let counted = Counted { name, common, routes: counted, no_route: Counters::new() };
        let routes = Arc::new(Routes { routes: built, begin });
        Ok(Self { routes, counted: Arc::new(counted), observer, extract, reject: AsError })
    }
}

impl<Req, S: Service<Req>, X, R> Gateway<Req, S, X, R> {
    /// Sets how refusals and timeouts are returned. Default: as errors, through [`AsError`].
    pub fn reject<R2>(self, reject: R2) -> Gateway<Req, S, X, R2> {
        let Self { routes, counted, observer, extract, .. } = self;
        Gateway { routes, counted, observer, extract, reject }
    }

    /// Sets the observer of the gateway, of its clones and of the parts of its routes. Default:
    /// none.
    ///
    /// An observer in a route's [`rate_limit`](Route::rate_limit) configuration stays. Only the
    /// first call of `observer` has an effect.
    #[must_use]
    pub fn observer(self, observer: impl Observer + 'static) -> Self {
        self.observer.set(Arc::new(observer));
        self
    }

    /// Returns the handle of the gateway, for operators.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { counted: self.counted.clone() }
    }
}

impl<Req, S, X, R> Service<Req> for Gateway<Req, S, X, R>
where
    S: Service<Req>,
    X: Fn(&Req) -> Option<&str>,
    R: Reject<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Response, S::Error, R>;

    /// Always returns ready, because the route of a request is known only in `call`.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let named = (self.extract)(&request).and_then(|name| {
            self.counted.routes.iter().position(|route| route.name.as_str() == name)
        });
        let reject = self.reject.clone();
        let Some(index) = named else {
            self.counted.no_route.add(Unrouted::NoRoute);
            let error = Error::gateway(ErrorKind::NoRoute, self.counted.name);
            self.counted.common.refused(|| error.clone());
            return ResponseFuture::refused(error, reject);
        };
        let begun = Request::begin(self.counted.clone(), index);
        let begin = self.routes.begin;
        let sent = begin(self.routes.clone(), self.counted.clone(), index, request);
        ResponseFuture::sent(sent, begun, reject)
    }
}

/// Boxes the work of a request, within the time limit of its route.
fn begin<Req, S>(
    routes: Arc<Routes<Req, S>>,
    counted: Arc<Counted>,
    index: usize,
    request: Req,
) -> Sent<S::Response, S::Error>
where
    Req: Send + 'static,
    S: Service<Req, Response: Send, Error: Send, Future: Send> + Clone + Send + 'static,
{
    let limit = counted.routes.get(index).and_then(|route| route.time_limit.clone());
    let sent = send(routes, counted, index, request);
    let Some(limit) = limit else { return Box::pin(sent) };
    // The time counts from here, not from the first poll.
    let limited = limit.run(sent);
    Box::pin(async move { limited.await.unwrap_or_else(|error| Err(Stop::Refused(error))) })
}

/// Runs route, authorization, limiter and backend in this order, so that a refused request spends
/// no token and takes no backend's turn.
async fn send<Req, S>(
    routes: Arc<Routes<Req, S>>,
    counted: Arc<Counted>,
    index: usize,
    request: Req,
) -> Result<S::Response, Stop<S::Error>>
where
    S: Service<Req> + Clone,
{
    let (Some(route), Some(counted)) = (routes.routes.get(index), counted.routes.get(index)) else {
        return Err(Stop::Refused(Error::gateway(ErrorKind::NoRoute, Name::default())));
    };
    let refuse = |kind| {
        let error = Error::gateway(kind, counted.name);
        counted.common.refused(|| error.clone());
        Err(Stop::Refused(error))
    };
    if let Some(authorize) = &route.authorize {
        match authorize(&request).await {
            Ok(Decision::Allow) => {}
            Ok(Decision::Unauthenticated) => return refuse(ErrorKind::Unauthenticated),
            Ok(Decision::Deny) => return refuse(ErrorKind::Forbidden),
            Err(error) => {
                let route = counted.name.as_str();
                tracing::warn!(target: "buttress", route, error = %with_causes(&*error), "the authorization service failed");
                return refuse(ErrorKind::AuthUnavailable);
            }
        }
    }
    if let Some(limit) = &counted.rate_limit {
        limit.try_acquire(1).map_err(Stop::Refused)?;
    }
    let Some((backend, mut service)) = route.backends.ready().await else {
        return refuse(ErrorKind::NoBackend);
    };
    if let Some(backend) = counted.backends.get(backend) {
        backend.add(OfBackend::Requests);
    }
    service.call(request).await.map_err(Stop::Failed)
}

impl<Req, S: Service<Req>, X: Clone, R: Clone> Clone for Gateway<Req, S, X, R> {
    fn clone(&self) -> Self {
        Self {
            routes: self.routes.clone(),
            counted: self.counted.clone(),
            observer: self.observer.clone(),
            extract: self.extract.clone(),
            reject: self.reject.clone(),
        }
    }
}

impl<Req, S: Service<Req>, X, R> fmt::Debug for Gateway<Req, S, X, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("handle", &self.handle()).finish_non_exhaustive()
    }
}
