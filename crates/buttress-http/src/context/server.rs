//! The fields of a request become its context, and the context's id goes back on the response.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Instant;

use buttress::context::{Context, CorrelationId, Priority, Scoped, TraceContext};
use buttress::{Clock, Error, Reject};
use http::{HeaderMap, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::Span;

use super::headers::{self, CORRELATION, Field, PRIORITY};
use super::trust::Trust;
use crate::Respond;

/// A layer that makes the context of each request from its header fields.
/// [`ContextLayer::server`](super::ContextLayer::server) returns it.
#[derive(Clone, Debug)]
#[must_use]
pub struct ServerContextLayer<R = Respond> {
    trust: Trust,
    clock: Clock,
    counted: Arc<Counted>,
    reject: R,
}

/// The counters of rare events. A request with valid fields, or without any, writes to no counter.
#[derive(Debug, Default)]
struct Counted {
    malformed: AtomicU64,
    untrusted: AtomicU64,
    expired: AtomicU64,
}

/// The numbers of a [`ServerContextLayer`].
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ContextStats {
    /// Fields of trusted callers that were ignored, because their text is not a value of the field, or because the
    /// request had the field twice.
    pub malformed: u64,
    /// Priorities of callers that are not trusted. They were removed from the request.
    pub untrusted_priorities: u64,
    /// Requests whose deadline had passed on arrival. They were answered without the service.
    pub expired: u64,
}

impl ServerContextLayer {
    pub(super) fn new(trust: Trust) -> Self {
        let (clock, counted) = (Clock::default(), Arc::default());
        Self { trust, clock, counted, reject: Respond }
    }
}

impl<R> ServerContextLayer<R> {
    /// Sets the clock of the deadlines. Default: tokio's. It must be the clock of the layers further in.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Answers requests whose deadline has passed through `reject`. Default: [`Respond`], a 504.
    pub fn reject<T>(self, reject: T) -> ServerContextLayer<T> {
        let Self { trust, clock, counted, reject: _ } = self;
        ServerContextLayer { trust, clock, counted, reject }
    }

    /// Returns the numbers of the layer and all services made of it.
    #[must_use]
    pub fn stats(&self) -> ContextStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counted { malformed, untrusted, expired } = &*self.counted;
        ContextStats {
            malformed: read(malformed),
            untrusted_priorities: read(untrusted),
            expired: read(expired),
        }
    }
}

impl<R> ServerContextLayer<R> {
    /// The context that a request begins with.
    fn context(&self, headers: &mut HeaderMap, trusted: bool, now: Instant) -> Context {
        if !trusted {
            if headers.remove(PRIORITY).is_some() {
                self.counted.untrusted.fetch_add(1, Ordering::Relaxed);
            }
            let context = Context::new().with_correlation(CorrelationId::random());
            return context.with_trace(TraceContext::root());
        }
        let correlation = self.read(headers::correlation(headers));
        let trace = self.read(headers::trace(headers));
        let timeouts = [headers::timeout(headers), headers::grpc_timeout(headers)];
        let priority = self.read(headers::priority(headers));
        let mut context = Context::new()
            .with_correlation(correlation.unwrap_or_else(CorrelationId::random))
            .with_trace(trace.unwrap_or_else(TraceContext::root));
        if let Some(priority) = priority.filter(|priority| *priority != Priority::default()) {
            context = context.with_priority(priority);
        }
        for timeout in timeouts.into_iter().filter_map(|timeout| self.read(timeout)) {
            // A deadline later than the last instant is none.
            if let Some(at) = now.checked_add(timeout) {
                context = context.with_deadline(at);
            }
        }
        context
    }

    fn read<T>(&self, field: Field<T>) -> Option<T> {
        if field.is_malformed() {
            self.counted.malformed.fetch_add(1, Ordering::Relaxed);
        }
        field.ok()
    }

    /// The refusal of a request that has arrived too late.
    fn expired(&self, context: &Context, now: Instant) -> Option<Error> {
        let error = context.expired(now)?;
        self.counted.expired.fetch_add(1, Ordering::Relaxed);
        Some(error)
    }
}

impl<S, R: Clone> Layer<S> for ServerContextLayer<R> {
    type Service = ServerContext<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        ServerContext { inner, layer: self.clone() }
    }
}

/// A service whose requests have a context. Made by [`ServerContextLayer`].
#[derive(Clone, Debug)]
pub struct ServerContext<S, R = Respond> {
    inner: S,
    layer: ServerContextLayer<R>,
}

impl<S, R, A, B> Service<Request<A>> for ServerContext<S, R>
where
    S: Service<Request<A>, Response = Response<B>>,
    R: Reject<Response<B>, S::Error>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = ServerContextFuture<S::Future, Response<B>, S::Error>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        let layer = &self.layer;
        let trusted = layer.trust.believes(request.extensions(), request.headers());
        let now = layer.clock.now();
        let context = layer.context(request.headers_mut(), trusted, now);
        let id = context.correlation().map(|id| headers::value_of(id.as_str()));
        let span = span_of(&context);
        let state = match layer.expired(&context, now) {
            Some(error) => State::Refused { result: Some(layer.reject.reject(error)) },
            None => {
                let future = span.in_scope(|| context.run(&mut self.inner, request));
                State::Running { future }
            }
        };
        ServerContextFuture { state, id, span }
    }
}

/// The span around a request. It is disabled, and costs nothing more, where no subscriber wants it.
fn span_of(context: &Context) -> Span {
    tracing::info_span!(
        target: "buttress",
        "request",
        correlation_id = context.correlation().map(CorrelationId::as_str),
        trace_id = context.trace().map(|trace| tracing::field::display(Hex(trace.trace_id()))),
    )
}

/// A trace id in the form of a `traceparent`.
struct Hex(u128);

impl std::fmt::Display for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

pin_project! {
    /// The response of a [`ServerContext`]. Dropping it drops the call.
    #[must_use = "futures do nothing unless polled"]
    pub struct ServerContextFuture<F, Res, E> {
        #[pin]
        state: State<F, Res, E>,
        // `None` once it is on the response.
        id: Option<HeaderValue>,
        span: Span,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, Res, E> {
        Running { #[pin] future: Scoped<F> },
        Refused { result: Option<Result<Res, E>> },
    }
}

impl<F, B, E> Future for ServerContextFuture<F, Response<B>, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _entered = this.span.enter();
        let mut result = match this.state.project() {
            StateProj::Running { future } => ready!(future.poll(cx)),
            StateProj::Refused { result } => match result.take() {
                Some(result) => result,
                None => crate::ended::polled_after_completion("context::ServerContextFuture"),
            },
        };
        if let (Ok(response), Some(id)) = (&mut result, this.id.take()) {
            response.headers_mut().insert(CORRELATION, id);
        }
        Poll::Ready(result)
    }
}

impl<F, Res, E> std::fmt::Debug for ServerContextFuture<F, Res, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerContextFuture").finish_non_exhaustive()
    }
}
