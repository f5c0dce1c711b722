use http::Response;

use super::body::HoldBody;
use crate::layered::layered;
use crate::mapped::{MapResponse, Mapped, MappedFuture};

/// A layer that makes the bodies of responses hold calls: it wraps `Response<B>` into
/// `Response<HoldBody<B>>`.
///
/// Put it further in than every layer with a [`BodyEnd`](super::BodyEnd). One is enough for all of
/// them, unless a layer between them replaces the body, as an
/// [`IdempotencyKeyLayer`](crate::IdempotencyKeyLayer) does. The layers further out than such a
/// layer need another `HoldBodyLayer`, directly outside of it.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct HoldBodyLayer;

layered!(HoldBodyLayer => HoldBodies, |_layer, inner| Mapped::new(inner, Hold));

/// A service whose responses have bodies that hold calls. [`HoldBodyLayer`] makes it.
pub type HoldBodies<S> = Mapped<S, Hold>;

/// The response of a [`HoldBodies`]. Dropping it cancels the call.
pub type HoldBodyFuture<F> = MappedFuture<F, Hold>;

/// The change of a response: its body holds calls.
#[derive(Clone, Copy, Debug)]
pub struct Hold;

impl<B> MapResponse<Response<B>> for Hold {
    type Response = Response<HoldBody<B>>;

    fn map(&self, response: Response<B>) -> Self::Response {
        response.map(HoldBody::new)
    }
}
