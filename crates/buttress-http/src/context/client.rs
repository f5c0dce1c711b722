//! The context of the caller becomes fields of the requests it sends.

use std::time::Duration;

use buttress::Clock;
use buttress::context::{Context, Priority};
use http::header::{CONTENT_TYPE, Entry};
use http::{HeaderMap, HeaderValue, Request};

use super::headers::{
    self, CORRELATION, Field, GRPC_TIMEOUT, PRIORITY, TIMEOUT, TRACEPARENT, TRACESTATE,
};
use crate::grpc::is_grpc;
use crate::writer::writes_requests;

/// A layer that writes the current context into each request. [`ContextLayer::client`](super::ContextLayer::client)
/// returns it.
///
/// Put it inside of a retry: each attempt then has its own parent id in the trace, and the remaining time.
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
        if let Some(id) = context.correlation() {
            headers.entry(CORRELATION).or_insert_with(|| headers::value_of(id.as_str()));
        }
        let leaves = self.trace == Trace::Leave && headers.contains_key(TRACEPARENT);
        if let Some(trace) = context.trace().filter(|_| !leaves) {
            headers.insert(TRACEPARENT, headers::value(trace.child().to_string()));
            match trace.state() {
                Some(state) => headers.insert(TRACESTATE, headers::value_of(state)),
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

    /// Writes the remaining time, rounded down, and at least 1 while time is left: a server does not begin a call
    /// without time, which would count against it. If the request already has a shorter time, that time stays.
    fn write_deadline(&self, left: Duration, headers: &mut HeaderMap) {
        let is_shorter = |field: Field<Duration>| field.ok().is_some_and(|own| own <= left);
        let value = || {
            let least = u64::from(!left.is_zero());
            HeaderValue::from(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(least))
        };
        // Most requests have no such field: then one search finds its place.
        match headers.try_entry(TIMEOUT) {
            Ok(Entry::Vacant(entry)) => drop(entry.insert(value())),
            _ => {
                if !is_shorter(headers::timeout(headers)) {
                    headers.insert(TIMEOUT, value());
                }
            }
        }
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if content_type.is_some_and(is_grpc) && !is_shorter(headers::grpc_timeout(headers)) {
            headers.insert(GRPC_TIMEOUT, headers::grpc_timeout_value(left));
        }
    }
}

/// A client whose requests carry the current context. Made by [`ClientContextLayer`].
#[derive(Clone, Debug)]
pub struct ClientContext<S> {
    inner: S,
    layer: ClientContextLayer,
}

writes_requests!(ClientContextLayer, ClientContext);

impl ClientContextLayer {
    fn write_into<B>(&self, request: &mut Request<B>) {
        Context::peek(|context| {
            if !context.is_empty() {
                self.write(context, request.headers_mut());
            }
        });
    }
}
