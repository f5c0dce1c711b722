//! [`Until`]: chooses when a call is over.

use std::fmt;

use crate::vocabulary::classify::Outcome;

/// The choice of when a call through a layer is over: with its response, or later.
///
/// A bulkhead returns its permit when the call is over, and a circuit breaker then counts the
/// outcome. With [`UntilResponse`], the default, both happen when the response is ready. A response
/// can have a part that is still to come, such as a streaming body. An implementation for such
/// responses puts the [`OpenCall`] into the response, and ends it at the end of that part.
/// `buttress_http::BodyEnd` implements `Until` for HTTP bodies.
///
/// ```
/// use buttress::bulkhead::BulkheadLayer;
/// use buttress::{OpenCall, Outcome, Until};
/// use tower::{BoxError, ServiceBuilder, ServiceExt};
///
/// /// A response with a part that is still to come.
/// #[derive(Default)]
/// struct Stream {
///     calls: Vec<OpenCall>,
/// }
///
/// #[derive(Clone)]
/// struct StreamEnd;
///
/// impl Until<Stream> for StreamEnd {
///     fn until(&self, mut stream: Stream, call: OpenCall) -> Stream {
///         stream.calls.push(call);
///         stream
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), BoxError> {
/// let bulkhead = BulkheadLayer::default().until(StreamEnd);
/// let handle = bulkhead.handle();
/// let service = ServiceBuilder::new()
///     .layer(bulkhead)
///     .service_fn(async |()| Ok::<_, BoxError>(Stream::default()));
/// let stream = service.oneshot(()).await?;
/// assert_eq!(handle.stats().active, 1, "the stream has not ended");
/// for call in stream.calls {
///     call.end(Outcome::Success);
/// }
/// assert_eq!(handle.stats().active, 0);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot hold a call open in a response of type `{Res}`",
    label = "this layer holds the call open after its response",
    note = "for HTTP, put `buttress_http::HoldBodyLayer` further in than this layer: it makes the bodies that `BodyEnd` needs"
)]
pub trait Until<Res> {
    /// `true` if a call is over with its response. The layer then ends the call and does not call
    /// [`until`](Self::until). Default: `false`.
    const WITH_RESPONSE: bool = false;

    /// Takes the call that returned `response`, and returns the response.
    ///
    /// A circuit breaker calls this only for a response that its classifier judges as a success. It
    /// counts every other response immediately. No layer calls this for an error.
    fn until(&self, response: Res, call: OpenCall) -> Res;
}

/// A call is over when its response is ready. The default of every layer. It costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UntilResponse;

#[diagnostic::do_not_recommend]
impl<Res> Until<Res> for UntilResponse {
    const WITH_RESPONSE: bool = true;

    #[inline(always)]
    fn until(&self, response: Res, call: OpenCall) -> Res {
        call.end(Outcome::Success);
        response
    }
}

/// A call that is not over although its response is ready: the permit of a bulkhead, or the
/// admission of a circuit breaker. [`Until`] receives it.
///
/// It owns its part of the layer's state, so it may outlive the layer and every service. Dropping
/// it ends the call. A circuit breaker then counts the call as
/// [`panicked_calls`](crate::circuit_breaker::Config::panicked_calls) while a panic unwinds, and
/// otherwise as [`dropped_calls`](crate::circuit_breaker::Config::dropped_calls).
#[must_use = "dropping an open call ends it as abandoned"]
pub struct OpenCall(Box<dyn Open>);

/// The guard of a layer in an [`OpenCall`]. Dropping it ends the call.
pub(crate) trait Open: Send + Sync + 'static {
    fn end(self: Box<Self>, outcome: Outcome);
    fn abandon(self: Box<Self>);
}

impl OpenCall {
    pub(crate) fn new(open: impl Open) -> Self {
        Self(Box::new(open))
    }

    /// Ends the call. `outcome` is the result of the rest of the response, e.g. of its body. A circuit breaker
    /// counts `outcome`. A bulkhead returns the permit.
    pub fn end(self, outcome: Outcome) {
        self.0.end(outcome);
    }

    /// Ends the call, because the caller dropped the response before its end. A circuit breaker
    /// counts [`dropped_calls`](crate::circuit_breaker::Config::dropped_calls), also while a panic
    /// of the caller unwinds. A bulkhead returns the permit.
    pub fn abandon(self) {
        self.0.abandon();
    }
}

impl fmt::Debug for OpenCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenCall").finish_non_exhaustive()
    }
}
