//! [`DurationLayer`]: a histogram of the duration of calls, for selected places of a stack.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use metrics::{Histogram, Key, Label, Level, Metadata};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::vocabulary::classify::{Classify, Outcome, ServiceErrors};
use crate::vocabulary::clock::Clock;
use crate::vocabulary::metric_names::CALL_DURATION;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::simulated::check_clock;

static METADATA: Metadata<'static> = Metadata::new("buttress", Level::INFO, Some("buttress"));

/// The indexes of the outcomes in [`OUTCOMES`], which are the values of the label `outcome`.
const SUCCESS: usize = 0;
const FAILURE: usize = 1;
const IGNORED: usize = 2;
const DROPPED: usize = 3;
const OUTCOMES: [&str; 4] = ["success", "failure", "ignored", "dropped"];

/// A layer that records the duration of calls in the histogram `buttress.call.duration`, by their
/// outcome.
///
/// No other layer records durations in the `metrics` facade. A call pays for two reads of the clock
/// and one record only in this layer. Outside of a retry it measures the whole call, inside of the
/// retry one attempt.
///
/// The label `outcome` has one of four values. The [classifier](Self::classify) decides between the first three:
/// - `success`: the service did its work. By default every response is a success, also a 401 or a 500: for HTTP set a
///   classifier by status (`ByStatus` of `buttress-http`).
/// - `failure`: the service failed. A time limit further in is a failure.
/// - `ignored`: the result says nothing about the service. By default these are errors that are refusals of a layer
///   further in.
/// - `dropped`: the caller dropped the call, e.g. a client disconnected or a time limit further out passed.
///
/// A call that a layer further out refuses is not recorded. The page of the module [`telemetry`](crate::telemetry) has
/// the outcome of each result.
///
/// ```
/// use buttress::telemetry::DurationLayer;
/// use tower::{BoxError, ServiceBuilder};
/// let service = ServiceBuilder::new()
///     .layer(DurationLayer::new("db"))
///     .service_fn(async |item: u32| Ok::<u32, BoxError>(item * 100));
/// # let _ = service;
/// ```
#[derive(Clone)]
#[must_use]
pub struct DurationLayer<C = ServiceErrors> {
    shared: Arc<Shared>,
    classify: C,
}

struct Shared {
    keys: [Key; 4],
    clock: Clock,
}

impl Shared {
    fn record(&self, outcome: usize, begun: Instant) {
        let Some(key) = self.keys.get(outcome) else { return };
        let took = self.clock.now().saturating_duration_since(begun);
        register(key).record(took);
    }
}

fn register(key: &Key) -> Histogram {
    metrics::with_recorder(|recorder| recorder.register_histogram(key, &METADATA))
}

impl DurationLayer {
    /// Creates a layer that measures calls under `name`, by tokio's clock.
    ///
    /// An error is a failure, except that a refusal of a layer of this crate is ignored.
    pub fn new(name: impl Into<Name>) -> Self {
        Self::with_clock(name, Clock::default())
    }

    /// Creates a layer that measures calls under `name`, by `clock`.
    pub fn with_clock(name: impl Into<Name>, clock: Clock) -> Self {
        let name = name.into();
        check_clock(name.as_str(), &clock);
        let keys = OUTCOMES.map(|outcome| {
            let layer = Label::from_static_parts("layer", name.as_str());
            let outcome = Label::from_static_parts("outcome", outcome);
            Key::from_parts(CALL_DURATION.name, vec![layer, outcome])
        });
        CALL_DURATION.describe();
        keys.iter().for_each(|key| drop(register(key)));
        Self { shared: Arc::new(Shared { keys, clock }), classify: ServiceErrors }
    }
}

impl<C> DurationLayer<C> {
    /// Sets the classifier that decides the outcome of a call. Default: [`ServiceErrors`].
    pub fn classify<D>(self, classify: D) -> DurationLayer<D> {
        DurationLayer { shared: self.shared, classify }
    }
}

impl<S, C: Clone> Layer<S> for DurationLayer<C> {
    type Service = Measured<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Measured { inner, layer: self.clone() }
    }
}

/// The service of a [`DurationLayer`].
#[derive(Clone)]
pub struct Measured<S, C = ServiceErrors> {
    inner: S,
    layer: DurationLayer<C>,
}

impl<S, C, Req> Service<Req> for Measured<S, C>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let begun = self.layer.shared.clock.now();
        let call = Call { shared: Some(self.layer.shared.clone()), begun };
        ResponseFuture {
            inner: self.inner.call(request),
            call,
            classify: self.layer.classify.clone(),
        }
    }
}

/// One call, recorded once: by its outcome, or as dropped.
struct Call {
    /// `None` once recorded.
    shared: Option<Arc<Shared>>,
    begun: Instant,
}

impl Call {
    fn end(&mut self, outcome: usize) {
        if let Some(shared) = self.shared.take() {
            shared.record(outcome, self.begun);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(DROPPED);
    }
}

pin_project! {
    /// The response of a [`Measured`]. Dropping it cancels the call.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, C> {
        #[pin]
        inner: F,
        call: Call,
        classify: C,
    }
}

impl<F, C, Res, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        this.call.end(match this.classify.classify(&result) {
            Outcome::Success => SUCCESS,
            Outcome::Failure => FAILURE,
            _ => IGNORED,
        });
        Poll::Ready(result)
    }
}

impl<C> fmt::Debug for DurationLayer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurationLayer").finish_non_exhaustive()
    }
}

impl<S, C> fmt::Debug for Measured<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured").finish_non_exhaustive()
    }
}

impl<F, C> fmt::Debug for ResponseFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
