use std::fmt;

use buttress::{OpenCall, Until};
use http::Response;
use http_body::Body;

use super::body::HoldBody;
use super::held::Guard;
use crate::grpc;
use crate::grpc::is_failure_of_service;

/// A call is over when its response's body ends, and not with the head of the response. Pass it to the `until` of a
/// bulkhead or circuit breaker.
///
/// The response needs a [`HoldBody`], which a [`HoldBodyLayer`](super::HoldBodyLayer) further in
/// makes. [`HoldBody`] lists how a body can end, and the responses without a body.
///
/// - A bulkhead keeps its permit until the body ends, fails, or is dropped.
/// - A circuit breaker counts a success when the body has ended, and a failure when the body fails.
///   A reader that drops the body before its end counts as
///   [`dropped_calls`](buttress::circuit_breaker::Config::dropped_calls): by default not at all. The
///   breaker counts a response that its classifier judges as a failure with the head, and its body
///   changes nothing. Whether a call was slow is decided with the head too, because the length of a
///   stream depends on its content and its reader.
/// - A gRPC call without a status in its head is judged by the status in its trailers. A body that
///   ends without one is UNKNOWN. gRPC-Web sends its trailers as data, so its calls end by the body
///   alone.
///
/// A reader that neither reads nor drops the body holds the permit for as long. No layer can drop
/// the body of such a reader: the server must end its connection.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// use std::convert::Infallible;
/// use buttress::bulkhead::BulkheadLayer;
/// use buttress_http::{BodyEnd, HoldBodyLayer, HttpLayerExt};
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// let bulkhead = BulkheadLayer::default();
/// let handle = bulkhead.handle();
/// let route = ServiceBuilder::new()
///     .layer(bulkhead.http().until(BodyEnd::new()))
///     .layer(HoldBodyLayer)
///     .service_fn(async |_: Request<String>| {
///         Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::from("a long stream")))
///     });
/// let response = route.oneshot(Request::default()).await?;
/// assert_eq!(handle.stats().active, 1, "the body is not read");
/// response.into_body().collect().await?;
/// assert_eq!(handle.stats().active, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
#[must_use]
pub struct BodyEnd {
    grpc_failures: fn(i32) -> bool,
}

impl BodyEnd {
    /// Ends calls with their bodies.
    pub const fn new() -> Self {
        Self { grpc_failures: is_failure_of_service }
    }

    /// Counts a gRPC code in trailers, 0 to 16, as a failure if `failures` returns `true` for it.
    /// Default: the codes of [`ByStatus`](crate::ByStatus), which judges the codes in heads. An
    /// invalid or absent code is UNKNOWN (2).
    pub const fn grpc_failures(self, failures: fn(i32) -> bool) -> Self {
        Self { grpc_failures: failures }
    }
}

impl Default for BodyEnd {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Body> Until<Response<HoldBody<B>>> for BodyEnd {
    fn until(&self, mut response: Response<HoldBody<B>>, call: OpenCall) -> Response<HoldBody<B>> {
        let waits = grpc::ends_in_trailers(&response);
        let guard = Guard::Call { call, grpc: waits.then_some(self.grpc_failures) };
        let status = response.status();
        response.body_mut().push_for(status, guard);
        response
    }
}

impl fmt::Debug for BodyEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyEnd").finish_non_exhaustive()
    }
}
