use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use tower::{BoxError, Service};

use crate::machinery::cloned::Cloned;
use crate::rate_limit;
use crate::vocabulary::name::Name;

/// What an authorization service says of a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Decision {
    /// Let it through.
    Allow,
    /// Refuse it as [`Unauthenticated`](crate::ErrorKind::Unauthenticated): it is unknown who is asking,
    /// because the credentials are missing or not valid. The caller can send better ones.
    Unauthenticated,
    /// Refuse it as [`Forbidden`](crate::ErrorKind::Forbidden): it is known who is asking, and that caller
    /// may not.
    Deny,
}

type Deciding = Pin<Box<dyn Future<Output = Result<Decision, BoxError>> + Send>>;
pub(super) type Authorize<Req> = Box<dyn Fn(&Req) -> Deciding + Send + Sync>;

/// One route of a [`Gateway`](super::Gateway): who may pass, how often, to which backends, for how long.
#[must_use]
pub struct Route<Req, S> {
    pub(super) name: Name,
    pub(super) backends: Vec<S>,
    pub(super) authorize: Option<Authorize<Req>>,
    pub(super) rate_limit: Option<rate_limit::Config>,
    pub(super) time_limit: Option<Duration>,
}

impl<Req, S> Route<Req, S> {
    /// Creates a route called `name`, which is what the gateway's extractor must say. It needs a
    /// [`backend`](Self::backend).
    pub fn new(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            backends: Vec::new(),
            authorize: None,
            rate_limit: None,
            time_limit: None,
        }
    }

    /// One more backend. Requests go to the backends in turn, passing by those that are not ready.
    pub fn backend(mut self, service: S) -> Self {
        self.backends.push(service);
        self
    }

    /// Asks `service`, with what `credentials` takes from the request, whether it may pass. If the
    /// service fails, the request is refused. Defaults to letting everything pass.
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

    /// Sets how many requests may pass, of those that are authorized. Only a limiter that refuses
    /// at once is made of it. Defaults to no limit.
    pub fn rate_limit(mut self, config: rate_limit::Config) -> Self {
        self.rate_limit = Some(config);
        self
    }

    /// Sets how long a request may take, from when it comes to the gateway until it is answered:
    /// authorization, waiting for a backend, and the backend's work. Defaults to no limit.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
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
