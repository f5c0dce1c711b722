//! [`LocalService`]: a service of this process at the end of a route.

use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tower::{BoxError, Service};

use crate::Body;
use crate::caught::{caught, discard};

type Pending<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// A service whose type is erased.
trait Erased: Send + Sync {
    /// Waits until a clone of the service is ready, and calls it.
    fn call(&self, request: Request<Body>) -> Pending<Response<Body>>;

    /// Waits until a clone of the service is ready.
    fn ready(&self) -> Pending<()>;
}

/// A tower service of this process at the end of a route, for `Document::bind_service`. Cheap to clone; clones are the same
/// service. [`Route::to_service`](crate::Route::to_service) describes how a proxy calls it.
#[derive(Clone)]
pub struct LocalService(Arc<dyn Erased>);

impl LocalService {
    /// Erases the type of a service.
    pub fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
        S: Clone + Send + Sync + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self(Arc::new(Of(service)))
    }

    /// Whether both are the same service.
    #[cfg(feature = "document")]
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Answers a request. A panic of the service, or of the body of its answer, is an error.
    pub(crate) fn call(&self, request: Request<Body>) -> Pending<Response<Body>> {
        guarded(|| self.0.call(request))
    }

    /// Waits until the service is ready. A panic of the service is an error.
    pub(crate) fn ready(&self) -> Pending<()> {
        guarded(|| self.0.ready())
    }
}

impl fmt::Debug for LocalService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalService")
    }
}

struct Of<S>(S);

impl<S, B> Erased for Of<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    fn call(&self, request: Request<Body>) -> Pending<Response<Body>> {
        let mut service = self.0.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
            let response = service.call(request).await.map_err(Into::into)?;
            Ok(response.map(|body| Body::new(body).guarded()))
        })
    }

    fn ready(&self) -> Pending<()> {
        let mut service = self.0.clone();
        Box::pin(async move { poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into) })
    }
}

/// A future of the service whose panics are errors. `None` once it has ended.
struct Guarded<T>(Option<Pending<T>>);

/// Guards the future that `begin` makes.
fn guarded<T: Send + 'static>(begin: impl FnOnce() -> Pending<T>) -> Pending<T> {
    match caught(begin) {
        Ok(future) => Box::pin(Guarded(Some(future))),
        Err(panicked) => Box::pin(ready(Err(panicked.into()))),
    }
}

impl<T> Future for Guarded<T> {
    type Output = Result<T, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.0 else {
            return Poll::Ready(Err("the call of the service has ended already".into()));
        };
        let polled = caught(|| future.as_mut().poll(cx));
        let polled = polled.unwrap_or_else(|panicked| Poll::Ready(Err(panicked.into())));
        if polled.is_ready() {
            discard(self.0.take());
        }
        polled
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        discard(self.0.take());
    }
}
