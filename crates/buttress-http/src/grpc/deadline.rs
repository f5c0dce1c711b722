//! One deadline for a call and all of its attempts.

use std::future::Future;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use buttress::context::{Context, Scoped};
use buttress::{Clock, Error, Sleep};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use super::respond::RespondGrpc;
use crate::context::grpc_timeout;
use crate::layered::layered;
use crate::refusal_mark::Refusal;

/// A transport has a timer for the `grpc-timeout` of its request, which is rounded down to a unit of the field. An
/// error that comes this long before the deadline, or less, is a passed deadline.
const ROUNDED: Duration = Duration::from_millis(1);

/// A layer of a client that makes the `grpc-timeout` of a request the deadline of the whole call, with all of its
/// attempts. Put it outside of all other layers.
///
/// tonic's `Request::set_timeout` writes `grpc-timeout`. tonic's channel gives the whole time to every attempt. With this
/// layer:
/// - The deadline of a call is the earliest of its `grpc-timeout`, the deadline of the current
///   [`Context`], and [`at_most`](Self::at_most).
/// - At the deadline the layer drops the call and answers DEADLINE_EXCEEDED (4).
/// - A retry further in makes no attempt that would begin at or after the deadline. It returns the last failure
///   immediately.
/// - A [`ContextLayer::client`](crate::context::ContextLayer::client) inside of the retry writes the remaining time into
///   each attempt.
///
/// A call without a deadline has no limit. A malformed `grpc-timeout`, or two of them, are ignored.
///
/// Put a time limit inside of a circuit breaker. It ends the call at the deadline before this layer drops it, so the
/// breaker counts a failure. A breaker does not count a dropped call.
///
/// The deadline covers the time until the head of the response. For a unary call that is the whole call, for a stream of
/// the server its beginning.
///
/// From 1 ms before the deadline onwards, the layer also answers an error of the inner service with DEADLINE_EXCEEDED.
/// tonic's channel has a timer for the same time, rounded down, and reports it as CANCELLED. The layer answers the refusal
/// of a layer further in likewise, if the deadline ended its wait for a permit, a token or an endpoint.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use std::time::Duration;
/// use buttress_http::grpc::DeadlineLayer;
/// use http::{Request, Response};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// let client = ServiceBuilder::new()
///     .layer(DeadlineLayer::new().at_most(Duration::from_secs(10)))
///     .service_fn(async |_: Request<()>| {
///         std::future::pending::<()>().await;
///         Ok::<_, BoxError>(Response::new(String::new()))
///     });
/// let request = Request::post("/shop.Orders/Place").header("grpc-timeout", "250m").body(())?;
/// let response = client.oneshot(request).await?; // 250 ms later
/// assert_eq!(response.headers()["grpc-status"], "4");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct DeadlineLayer {
    clock: Clock,
    at_most: Option<Duration>,
}

impl DeadlineLayer {
    /// Creates a layer that gives a call the deadline of its request or of its context.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the longest time of a call with all of its attempts. Default: none. A call with a shorter deadline keeps it.
    pub fn at_most(self, time: Duration) -> Self {
        Self { at_most: Some(time), ..self }
    }

    /// Sets the clock of the deadlines. Default: tokio's. It must be the clock of the layers further in.
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// The context of a call that begins at `now`.
    fn context<B>(&self, request: &Request<B>, now: Instant) -> Context {
        let times = [grpc_timeout(request.headers()), self.at_most];
        // A deadline later than the last instant is none.
        let deadlines = times.into_iter().flatten().filter_map(|time| now.checked_add(time));
        deadlines.fold(Context::current(), Context::with_deadline)
    }
}

layered!(DeadlineLayer => Deadline, |layer, inner| Deadline { inner, layer: layer.clone() });

/// A client whose calls have one deadline for all of their attempts. Made by [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S, A, B> Service<Request<A>> for Deadline<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let clock = &self.layer.clock;
        let now = clock.now();
        let context = self.layer.context(&request, now);
        let state = match (context.expired(now), context.overrun(now).zip(context.expires())) {
            (Some(error), _) => State::Late { error: Some(error) },
            (None, None) => State::Running { future: self.inner.call(request) },
            (None, Some((error, at))) => State::Limited {
                future: context.run(&mut self.inner, request),
                sleep: None,
                clock: clock.clone(),
                at,
                error: Some(error),
            },
        };
        DeadlineFuture { state }
    }
}

pin_project! {
    /// The response of a [`Deadline`]. Dropping it drops the call.
    #[must_use = "futures do nothing unless polled"]
    pub struct DeadlineFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // A call without a deadline.
        Running { #[pin] future: F },
        Limited {
            #[pin] future: Scoped<F>,
            // Made at the first `Pending`: a call whose answer is ready needs no timer.
            #[pin] sleep: Option<Sleep>,
            clock: Clock,
            at: Instant,
            // The answer at the deadline.
            error: Option<Error>,
        },
        // The deadline had passed before the call. `None` once it is answered.
        Late { error: Option<Error> },
        Over,
    }
}

impl<F, B, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let late = match state.as_mut().project() {
            StateProj::Running { future } => return future.poll(cx),
            StateProj::Limited { future, mut sleep, clock, at, error } => match future.poll(cx) {
                // An answer of the service that is ready at the deadline wins.
                Poll::Ready(result) => {
                    let is_answer = result.as_ref().is_ok_and(|it| Refusal::of(it).is_none());
                    if is_answer || at.saturating_duration_since(clock.now()) > ROUNDED {
                        return Poll::Ready(result);
                    }
                    error.take()
                }
                Poll::Pending => {
                    if sleep.is_none() {
                        sleep.set(Some(clock.sleep_until(*at)));
                    }
                    if let Some(sleep) = sleep.as_pin_mut() {
                        ready!(sleep.poll(cx));
                    }
                    error.take()
                }
            },
            StateProj::Late { error } => error.take(),
            StateProj::Over => None,
        };
        let Some(error) = late else {
            crate::ended::polled_after_completion("grpc::DeadlineFuture")
        };
        // The call is dropped before its answer is given.
        state.set(State::Over);
        Poll::Ready(Ok(RespondGrpc.response(&error)))
    }
}

impl<F> std::fmt::Debug for DeadlineFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadlineFuture").finish_non_exhaustive()
    }
}
