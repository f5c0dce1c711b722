//! [`Handler`]: the handler of one request type as a service.

use std::fmt;
use std::task::{Context, Poll};

use tower::Service;

use super::future::ResponseFuture;
use super::registered::{Registered, Request};

/// The handler of one request type, as a tower service. Made by [`Dispatch::handler`](super::Dispatch::handler).
///
/// A clone is a clone of the registered service, so it shares the state of the layers around it. A clone makes one
/// allocation, and so does a call.
pub struct Handler<Req: Request>(Box<dyn Registered<Req>>);

impl<Req: Request> Handler<Req> {
    pub(super) fn new(registered: &dyn Registered<Req>) -> Self {
        Self(registered.boxed_clone())
    }
}

impl<Req: Request> Clone for Handler<Req> {
    fn clone(&self) -> Self {
        Self::new(&*self.0)
    }
}

impl<Req: Request> Service<Req> for Handler<Req> {
    type Response = Req::Response;
    type Error = Req::Error;
    type Future = ResponseFuture<Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Req::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::running(self.0.call(request))
    }
}

impl<Req: Request> fmt::Debug for Handler<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handler").field(&std::any::type_name::<Req>()).finish()
    }
}
