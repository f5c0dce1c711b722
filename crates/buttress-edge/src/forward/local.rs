//! Gives a request to a service of this process.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use buttress::{AsRefusal, ErrorKind};
use http::{Request, Response};
use tower::{BoxError, Layer, Service};

use super::clocks::Late;
use super::outgoing::Phase;
use super::{Forwarder, Outgoing, Stream};
use crate::Body;
use crate::answer::Failed;
use crate::route::LocalService;

impl Forwarder {
    /// Gives a request to `service`, and returns the head of its answer. The limits of an attempt apply. `progress` is
    /// the body of the request. With `carries_context` the request carries the context, as those to backends do.
    pub(crate) fn serve(
        self: &Arc<Self>,
        service: &LocalService,
        request: Request<()>,
        progress: Outgoing,
        carries_context: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Stream>, Failed>> + Send>> {
        let (forwarder, service) = (Arc::clone(self), service.clone());
        Box::pin(async move {
            let start = forwarder.clock.now();
            let request = request.map(|()| Body::new(progress.clone()));
            let mut answer = if carries_context {
                forwarder.context.layer(Call(service)).call(request)
            } else {
                service.call(request)
            };
            let result = forwarder.in_time(answer.as_mut(), start, &progress).await;
            match progress.phase() {
                // The service has read an error, and cannot know that the proxy made it.
                Phase::TooLarge => return Err(Failed::BodyTooLarge),
                Phase::Broken => return Err(Failed::BodyBroken),
                _ => {}
            }
            match result {
                Ok(Ok(response)) => {
                    let observer = OnceLock::new();
                    Ok(response.map(|body| Stream { body, tally: None, lane: None, observer }))
                }
                Ok(Err(error)) => Err(failed(&error)),
                Err(Late { failed, .. }) => Err(failed),
            }
        })
    }
}

/// A service of this process, as a tower service that is always ready.
struct Call(LocalService);

impl Service<Request<Body>> for Call {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

/// Finds out whether a layer of the service refused the request, or the service failed.
fn failed(error: &BoxError) -> Failed {
    tracing::debug!(
        error = &**error as &(dyn std::error::Error + 'static),
        "the service of a route failed"
    );
    let Some(refusal) = error.as_refusal() else { return Failed::Service };
    match refusal.kind() {
        ErrorKind::TimedOut | ErrorKind::DeadlineExceeded => Failed::HeadTimedOut,
        ErrorKind::RateLimited
        | ErrorKind::BulkheadFull
        | ErrorKind::QueueTimeout
        | ErrorKind::TooManyKeys
        | ErrorKind::CircuitOpen
        | ErrorKind::NoEndpoint
            if refusal.never_reached_service() =>
        {
            Failed::Refused(refusal.clone())
        }
        _ => Failed::Service,
    }
}
