//! [`Request`], and a registered service without its type.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use tower::Service;

use super::error::NoHandler;

/// A command or a query: a value that exactly one handler answers.
///
/// A query is a request too. Its handler may have layers that a command must not have, such as a cache or
/// repeated attempts.
pub trait Request: Send + 'static {
    /// The answer of the handler.
    type Response: Send + 'static;
    /// The error of the handler, which [`Dispatch::send`](super::Dispatch::send) returns unchanged. It is also the
    /// error of a request without a handler. `tower::BoxError` is one; a typed error has a variant
    /// `#[from] NoHandler`.
    type Error: From<NoHandler> + Send + 'static;
}

/// The services that can be registered for the request `Req`.
///
/// Every service of `Req` with its response and error is one that is `Clone`, `Send`, `Sync` and `'static`, and whose
/// future is `Send`.
pub trait Handles<Req: Request>:
    Service<Req, Response = Req::Response, Error = Req::Error, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<Req: Request, S> Handles<Req> for S where
    S: Service<Req, Response = Req::Response, Error = Req::Error, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The answer of a handler to the request `Req`.
pub(super) type Answer<Req> = Result<<Req as Request>::Response, <Req as Request>::Error>;

/// A call in progress.
pub(super) type Call<Req> = Pin<Box<dyn Future<Output = Answer<Req>> + Send>>;

/// A registered service whose type is erased.
pub(super) trait Registered<Req: Request>: Send + Sync {
    /// Waits until a clone of the service is ready, and calls it.
    fn send(&self, request: Req) -> Call<Req>;

    fn boxed_clone(&self) -> Box<dyn Registered<Req>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Req::Error>>;

    fn call(&mut self, request: Req) -> Call<Req>;
}

impl<Req: Request, S: Handles<Req>> Registered<Req> for S {
    fn send(&self, request: Req) -> Call<Req> {
        let mut service = self.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            service.call(request).await
        })
    }

    fn boxed_clone(&self) -> Box<dyn Registered<Req>> {
        Box::new(self.clone())
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Req::Error>> {
        Service::poll_ready(self, cx)
    }

    fn call(&mut self, request: Req) -> Call<Req> {
        Box::pin(Service::call(self, request))
    }
}
