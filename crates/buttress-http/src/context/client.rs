//! The context of the caller becomes fields of the requests it sends.

use std::task::Poll;
use std::time::Duration;

use buttress::Clock;
use buttress::context::{Context, CorrelationId, Priority};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request};
use tower::{Layer, Service};

use super::headers::{
    self, CORRELATION, Field, GRPC_TIMEOUT, PRIORITY, TIMEOUT, TRACEPARENT, TRACESTATE,
};
use crate::grpc::is_grpc;

/// Writes the current context into each request. Made by [`ContextLayer::client`](super::ContextLayer::client).
///
/// Put it inside of a retry: each attempt then has its own parent id in the trace, and the time that is left.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ClientContextLayer {
    clock: Clock,
    trace: Trace,
}

/// Who writes the `traceparent` of requests.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Trace {
    /// The layer writes it, with a new parent id for each request. The default.
    #[default]
    Write,
    /// A tracer writes it. The layer changes neither `traceparent` nor `tracestate` of a request that has one. It writes
    /// them on a request that has none.
    Leave,
}

impl ClientContextLayer {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Sets the clock of the deadlines. Default: tokio's. It must be the clock that the deadline was made with.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Sets who writes `traceparent`. Default: [`Trace::Write`].
    pub fn trace(self, trace: Trace) -> Self {
        Self { trace, ..self }
    }

    fn write(&self, context: &Context, headers: &mut HeaderMap) {
        if let Some(id) = context.correlation().map(CorrelationId::as_str) {
            if !headers.contains_key(CORRELATION) {
                headers.insert(CORRELATION, headers::value(id.to_owned()));
            }
        }
        let leaves = self.trace == Trace::Leave && headers.contains_key(TRACEPARENT);
        if let Some(trace) = context.trace().filter(|_| !leaves) {
            headers.insert(TRACEPARENT, headers::value(trace.child().to_string()));
            match trace.state() {
                Some(state) => headers.insert(TRACESTATE, headers::value(state.to_owned())),
                None => headers.remove(TRACESTATE),
            };
        }
        if context.priority() != Priority::default() {
            headers.insert(PRIORITY, HeaderValue::from(u16::from(context.priority().get())));
        }
        if let Some(at) = context.expires() {
            self.write_deadline(at.saturating_duration_since(self.clock.now()), headers);
        }
    }

    /// Writes the remaining time, rounded down. If the request already has a shorter time, that time stays.
    fn write_deadline(&self, left: Duration, headers: &mut HeaderMap) {
        let is_shorter = |field: Field<Duration>| field.ok().is_some_and(|own| own <= left);
        if !is_shorter(headers::timeout(headers)) {
            let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            headers.insert(TIMEOUT, HeaderValue::from(millis));
        }
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if content_type.is_some_and(is_grpc) && !is_shorter(headers::grpc_timeout(headers)) {
            headers.insert(GRPC_TIMEOUT, headers::grpc_timeout_value(left));
        }
    }
}

impl<S> Layer<S> for ClientContextLayer {
    type Service = ClientContext<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ClientContext { inner, layer: self.clone() }
    }
}

/// A client whose requests carry the current context. Made by [`ClientContextLayer`].
#[derive(Clone, Debug)]
pub struct ClientContext<S> {
    inner: S,
    layer: ClientContextLayer,
}

impl<S, B> Service<Request<B>> for ClientContext<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        Context::peek(|context| {
            if !context.is_empty() {
                self.layer.write(context, request.headers_mut());
            }
        });
        self.inner.call(request)
    }
}
