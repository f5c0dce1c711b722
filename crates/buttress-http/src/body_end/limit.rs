use std::task::Context;

use buttress::Error;
use buttress::context::Context as RequestContext;
use buttress::time_limit::{Countdown, Handle};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body;

use super::body::HoldBody;
use super::held::Guard;
use crate::grpc;
use crate::layered::layered;
use crate::mapped::{MapResponse, Mapped, MappedFuture};

/// A layer that limits how long the body of a response may take.
///
/// Takes the [`Handle`] of a separate time limit. The handle returns the number of bodies that were
/// cut, and changes the limit. At the end of the limit the layer drops the body inside, and the reader gets the error
/// [`TimedOut`](buttress::ErrorKind::TimedOut). The body of a gRPC call ends with trailers instead: the code
/// DEADLINE_EXCEEDED (4), and [`ErrorKind::summary`](buttress::ErrorKind::summary) as its message. A circuit breaker further out with a
/// [`BodyEnd`](super::BodyEnd) counts a failure. One further in counts a dropped call.
///
/// The response needs a [`HoldBody`], which a [`HoldBodyLayer`](super::HoldBodyLayer) further in
/// makes. A body that is at its end, and a 101, have no limit.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// use std::time::Duration;
/// use buttress::time_limit::TimeLimitLayer;
/// use buttress_http::{BodyTimeLimitLayer, HoldBodyLayer};
/// use http::{Request, Response};
/// use http_body_util::BodyExt;
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// # use std::{pin::Pin, task::{Context, Poll}};
/// # #[derive(Default)]
/// # struct Silent;
/// # impl http_body::Body for Silent {
/// #     type Data = bytes::Bytes;
/// #     type Error = BoxError;
/// #     fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, BoxError>>> {
/// #         Poll::Pending
/// #     }
/// # }
/// let head = TimeLimitLayer::after(Duration::from_secs(10));
/// let idle = TimeLimitLayer::after(Duration::from_secs(60)).handle();
/// let client = ServiceBuilder::new()
///     .layer(BodyTimeLimitLayer::idle(&idle))
///     .layer(head)
///     .layer(HoldBodyLayer)
///     .service_fn(async |_: Request<String>| Ok::<_, BoxError>(Response::new(Silent)));
/// let response = client.oneshot(Request::default()).await?;
/// let error = response.into_body().collect().await.unwrap_err();
/// assert_eq!(error.to_string(), "time limit of 60s passed");
/// assert_eq!(idle.stats().timed_out, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BodyTimeLimitLayer {
    limit: Limit,
}

/// The change of a response: its body has a time limit.
#[derive(Clone, Debug)]
pub struct Limit {
    handle: Handle,
    idle: bool,
    heeds_deadline: bool,
}

impl BodyTimeLimitLayer {
    /// Limits the time that a reader waits for a frame. A slow but steady stream has no end.
    ///
    /// The time counts from when the reader finds no frame. A reader that takes its time uses none
    /// of it.
    pub fn idle(limit: &Handle) -> Self {
        Self { limit: Limit { handle: limit.clone(), idle: true, heeds_deadline: false } }
    }

    /// Limits the time from the head of the response to the end of its body. The time of a slow
    /// reader counts.
    pub fn whole(limit: &Handle) -> Self {
        Self { limit: Limit { handle: limit.clone(), idle: false, heeds_deadline: false } }
    }

    /// Ends the body at the deadline of its request too, as a
    /// [`Context`](buttress::context::Context) has it when the head is ready. The error is then
    /// [`DeadlineExceeded`](buttress::ErrorKind::DeadlineExceeded). Default: off, because a stream
    /// is meant to outlive the wait for its head.
    pub fn heed_deadline(mut self) -> Self {
        self.limit.heeds_deadline = true;
        self
    }
}

/// The running limit of a body.
pub(super) struct Running {
    countdown: Countdown,
    idle: bool,
    /// Whether a frame was read since the time began.
    fresh: bool,
    /// Whether the end of the body is the status of a gRPC call.
    grpc: bool,
}

/// The end of a body whose time is over, for its reader.
pub(super) enum Cut {
    Error(Error),
    /// The trailers of a gRPC call.
    Trailers(HeaderMap),
}

impl Running {
    /// Returns `true` if the time is over, while the reader waits.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> bool {
        if std::mem::take(&mut self.fresh) {
            self.countdown.restart();
        }
        self.countdown.poll_over(cx).is_ready()
    }

    /// Notes a frame. Returns `true` if it came too late: a body whose frames are always ready never
    /// makes its reader wait.
    pub(super) fn is_over_at_frame(&mut self) -> bool {
        self.fresh = self.idle;
        !self.idle && self.countdown.is_over()
    }

    pub(super) fn time_out(self) -> Cut {
        let error = self.countdown.time_out();
        if self.grpc { Cut::Trailers(grpc::trailers(&error)) } else { Cut::Error(error) }
    }
}

layered!(BodyTimeLimitLayer => BodyTimeLimit, |layer, inner| {
    Mapped::new(inner, layer.limit.clone())
});

/// A service that limits how long the bodies of its responses may take. [`BodyTimeLimitLayer`] makes it.
pub type BodyTimeLimit<S> = Mapped<S, Limit>;

/// The response of a [`BodyTimeLimit`]. Dropping it cancels the call.
pub type BodyTimeLimitFuture<F> = MappedFuture<F, Limit>;

impl<B: Body> MapResponse<Response<HoldBody<B>>> for Limit {
    type Response = Response<HoldBody<B>>;

    fn map(&self, mut response: Response<HoldBody<B>>) -> Self::Response {
        let (status, grpc) = (response.status(), grpc::ends_in_trailers(&response));
        let body = response.body_mut();
        if status != StatusCode::SWITCHING_PROTOCOLS && !body.is_over_with_head(status) {
            let Self { handle, idle, heeds_deadline } = self;
            let deadline = if *heeds_deadline { RequestContext::deadline() } else { None };
            let countdown = handle.countdown(deadline);
            let (idle, fresh) = (*idle, *idle);
            body.push(Guard::Limit(Running { countdown, idle, fresh, grpc }));
        }
        response
    }
}
