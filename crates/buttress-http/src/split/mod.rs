//! The HTTP parts of a [`Split`](buttress::split::Split): the side by header, and the fallback of requests.

use std::fmt;

use buttress::retry::CloneRequest;
use buttress::split::{ByError, Ending, FallBack, Judge, RefusedBy, Side};
use buttress::{Classify, Error, Name, Outcome};
use http::{HeaderName, Request};

use crate::by_status::ByStatus;
use crate::head::HttpResponse;
use crate::refusal_mark::Refusal;
use crate::repeat::{self, RepeatableBody};

/// Returns a finder of the side in the header `name`, for [`Split::force`](buttress::split::Split::force).
///
/// The value is `old` or `new`, in any case. Every other value is ignored, and so are two fields of that name. Clients
/// that can send the header can choose their side: at the edge, remove it from the requests of clients that must not
/// choose.
///
/// ```
/// use buttress::split::Side;
/// use http::{HeaderName, Request};
/// let force = buttress_http::split::force_header(HeaderName::from_static("x-backend"));
/// let side = |value: &str| force(&Request::builder().header("x-backend", value).body(()).unwrap());
/// assert_eq!(side("new"), Some(Side::New));
/// assert_eq!(side("canary"), None);
/// ```
pub fn force_header<B>(name: HeaderName) -> impl Fn(&Request<B>) -> Option<Side> + Clone {
    move |request| {
        let mut values = request.headers().get_all(&name).iter();
        let (first, second) = (values.next()?, values.next());
        if second.is_some() { None } else { Side::named(first.to_str().ok()?) }
    }
}

/// Returns the rule of fallbacks for services that answer their refusals: an axum route, or layers with `.http()`.
///
/// It copies requests with [`AnyRequest`], and judges results by [`ByResponse::refused_by`] `layers`: the names of the
/// layers around the service of the new side, which no other layer may have. A refusal of a layer further in is an
/// answer that stands, because the service had the request. Add `.idempotent(`[`is_idempotent`]`)` if idempotent
/// requests may reach both sides.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::convert::Infallible;
/// use buttress::circuit_breaker::{self, CircuitBreakerLayer};
/// use buttress::split::{Config, Split};
/// use buttress_http::HttpLayerExt;
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// let breaker = CircuitBreakerLayer::new(circuit_breaker::Config::new().name("new-orders"))?;
/// breaker.handle().force_open();
/// let old = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(String::from("old"))));
/// let new = service_fn(async |_: Request<String>| Ok::<_, Infallible>(Response::new(String::from("new"))));
///
/// let orders = Split::new(old, breaker.http().layer(new), Config::new().share(1.0))?
///     .fall_back(buttress_http::split::fall_back(["new-orders"]));
/// let response = orders.oneshot(Request::post("/orders").body(String::from("tea"))?).await?;
/// assert_eq!((response.status().as_u16(), response.body().as_str()), (200, "old"));
/// # Ok(())
/// # }
/// ```
pub fn fall_back<T: Into<Name>>(
    layers: impl IntoIterator<Item = T>,
) -> FallBack<AnyRequest, ByResponse> {
    FallBack::unsent([""; 0]).copy(AnyRequest).judge(ByResponse::new().refused_by(layers))
}

/// Returns `true` if `request` may be sent twice: its method is idempotent (RFC 9110, section 9.2.2), it has an
/// `Idempotency-Key`, or [`Repeatable`](crate::Repeatable) is in its extensions.
///
/// An `Idempotency-Key` protects only if both sides honour it, and share their records.
#[must_use]
pub fn is_idempotent<B>(request: &Request<B>) -> bool {
    repeat::may_repeat(request)
}

/// A copier of requests with any method, whose body is a [`RepeatableBody`].
///
/// Under a [`ReplayLayer`](crate::ReplayLayer) a streaming body is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnyRequest;

impl<B: RepeatableBody> CloneRequest<Request<B>> for AnyRequest {
    fn clone_request(&self, request: &Request<B>) -> Option<Request<B>> {
        repeat::copy(request)
    }

    fn is_repeatable(&self, copy: &Request<B>) -> bool {
        copy.body().can_repeat()
    }

    fn commit(&self, copy: &Request<B>) -> bool {
        copy.body().commit()
    }
}

/// A judge of responses: a refusal that never reached the service is unsent, and a failure by [`ByStatus`] failed.
///
/// `J` judges errors.
#[derive(Clone)]
#[must_use]
pub struct ByResponse<J = EveryError> {
    statuses: ByStatus,
    errors: J,
    /// `None` trusts the refusals of every layer.
    layers: Option<RefusedBy>,
}

/// A judge that counts every error as a failed call, which may have reached the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EveryError;

impl<Res, E> Judge<Res, E> for EveryError {
    fn judge(&self, result: &Result<Res, E>) -> Ending {
        if result.is_ok() { Ending::Answered } else { Ending::Failed }
    }
}

impl ByResponse {
    /// Counts every error as failed. For services that cannot fail.
    pub fn new() -> Self {
        Self { statuses: ByStatus::route(), errors: EveryError, layers: None }
    }

    /// Judges errors by [`ByError`], which knows refusals. Use it for clients whose error is `BoxError` or implements
    /// [`AsRefusal`](buttress::AsRefusal).
    pub fn client() -> ByResponse<ByError> {
        ByResponse { statuses: ByStatus::route(), errors: ByError, layers: None }
    }

    /// Judges errors by [`RefusedBy`] `layers`, and responses by [`refused_by`](Self::refused_by). For the new side of a
    /// split whose error is `BoxError` or implements [`AsRefusal`](buttress::AsRefusal).
    pub fn client_refused_by<T: Into<Name>>(
        layers: impl IntoIterator<Item = T>,
    ) -> ByResponse<RefusedBy> {
        let layers = RefusedBy::new(layers);
        ByResponse { statuses: ByStatus::route(), errors: layers.clone(), layers: Some(layers) }
    }
}

impl<J> ByResponse<J> {
    /// Counts a refusal as unsent only if a layer with one of these names made it. Default: any layer, which is wrong for a
    /// service that passes on refusals of layers further in.
    pub fn refused_by<T: Into<Name>>(mut self, layers: impl IntoIterator<Item = T>) -> Self {
        self.layers = Some(RefusedBy::new(layers));
        self
    }

    fn is_unsent(&self, refusal: &Error) -> bool {
        match &self.layers {
            Some(layers) => layers.is_unsent(refusal),
            None => refusal.never_reached_service(),
        }
    }
}

impl Default for ByResponse {
    fn default() -> Self {
        Self::new()
    }
}

impl<Res: HttpResponse, E, J: Judge<Res, E>> Judge<Res, E> for ByResponse<J> {
    fn judge(&self, result: &Result<Res, E>) -> Ending {
        let Ok(response) = result else { return self.errors.judge(result) };
        match Refusal::among(response.head().extensions) {
            Some(refusal) if self.is_unsent(refusal.error()) => Ending::Unsent,
            // A timeout, or the refusal of a layer further in: the side had the request.
            Some(_) => Ending::Failed,
            None if self.statuses.classify(result) == Outcome::Failure => Ending::Failed,
            None => Ending::Answered,
        }
    }
}

impl<J: fmt::Debug> fmt::Debug for ByResponse<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByResponse").field("errors", &self.errors).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
