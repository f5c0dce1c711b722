use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use tower::{BoxError, Service};

use crate::machinery::cloned::Cloned;
use crate::rate_limit;
use crate::vocabulary::name::Name;
use crate::vocabulary::setters::setters;

/// The decision of an authorization service about a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// Lets the request pass.
    Allow,
    /// Refuses the request as [`Unauthenticated`](crate::ErrorKind::Unauthenticated): the caller is
    /// unknown, because the credentials are missing or not valid. The caller can send better ones.
    Unauthenticated,
    /// Refuses the request as [`Forbidden`](crate::ErrorKind::Forbidden): the caller is known, and
    /// has no right to it.
    Deny,
}

type Deciding = Pin<Box<dyn Future<Output = Result<Decision, BoxError>> + Send>>;
pub(super) type Authorize<Req> = Box<dyn Fn(&Req) -> Deciding + Send + Sync>;

/// One route of a [`Gateway`](super::Gateway): its authorization, limiter, backends and time limit.
#[must_use]
pub struct Route<Req, S> {
    pub(super) name: Name,
    pub(super) backends: Vec<S>,
    pub(super) authorize: Option<Authorize<Req>>,
    pub(super) rate_limit: Option<rate_limit::Config>,
    pub(super) time_limit: Option<Duration>,
}

impl<Req, S> Route<Req, S> {
    /// Creates a route called `name`. The gateway's extractor returns this name for the requests of
    /// the route. The route needs a [`backend`](Self::backend).
    pub fn new(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            backends: Vec::new(),
            authorize: None,
            rate_limit: None,
            time_limit: None,
        }
    }

    /// Adds a backend. Requests go to the backends in turn, and skip a backend that is not ready.
    pub fn backend(mut self, service: S) -> Self {
        self.backends.push(service);
        self
    }

    /// Sets the authorization service. It gets the result of `credentials`, and decides whether the
    /// request passes.
    ///
    /// If the service fails, the request is refused. Default: none, every request passes.
    pub fn authorize<A, C>(
        mut self,
        service: A,
        credentials: impl Fn(&Req) -> C + Send + Sync + 'static,
    ) -> Self
    where
        A: Service<C, Response = Decision> + Clone + Send + 'static,
        A::Error: Into<BoxError>,
        A::Future: Send,
        C: Send + 'static,
    {
        let service = Cloned::new(service);
        self.authorize = Some(Box::new(move |request| {
            let (mut service, credentials) = (service.get(), credentials(request));
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
                service.call(credentials).await.map_err(Into::into)
            })
        }));
        self
    }

    setters! {
        /// Sets how many authorized requests may pass. The limiter refuses without waiting, whatever
        /// queue `config` has. Default: no limit.
        rate_limit(config: rate_limit::Config) => Some(config);

        /// Sets how long a request may take, from its arrival at the gateway to its answer:
        /// authorization, wait for a backend, and the backend's work. Default: no limit. Longer than
        /// zero, at most 365 days.
        time_limit(limit: Duration) => Some(limit);
    }
}

impl<Req, S> fmt::Debug for Route<Req, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("name", &self.name)
            .field("backends", &self.backends.len())
            .field("authorize", &self.authorize.is_some())
            .field("rate_limit", &self.rate_limit)
            .field("time_limit", &self.time_limit)
            .finish()
    }
}
