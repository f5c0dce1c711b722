//! The tasks that run the handlers of an [`IdempotencyKeyLayer`](super::IdempotencyKeyLayer).

use std::future::Future;

use buttress::Reject;
use buttress::idempotency::{Detached, Idempotency, Plain};
use http::{Request, Response};
use http_body::Body;
use tower::{Layer, Service};

use super::body::BufferedBody;
use super::identity::{Identified, Known};
use super::layer::Core;
use super::service::Bare;
use super::stored::StoredResponse;
use super::tape::ResponseTape;

/// A mode of a layer: its handlers run with their callers ([`Plain`], the default), or on separate
/// tasks ([`Detached`]). It is sealed.
pub trait Mode<S, R, B, C>: Clone
where
    S: Service<Request<B>, Response = Response<C>>,
    C: Body,
{
    #[doc(hidden)]
    type Working: Future<Output = Result<Response<BufferedBody<C>>, S::Error>>;

    #[doc(hidden)]
    fn work(core: Core<R, Self>, service: S, request: Identified<B>) -> Self::Working;
}

/// The service of the core that runs the calls.
type Working<S, R, M> = Idempotency<Bare<S>, Known, StoredResponse, ResponseTape, R, M>;

impl<S, R, B, C> Mode<S, R, B, C> for Plain
where
    S: Service<Request<B>, Response = Response<C>> + Clone,
    R: Reject<Response<BufferedBody<C>>, S::Error> + Clone,
    C: Body + Unpin,
{
    type Working = <Working<S, R, Self> as Service<Identified<B>>>::Future;

    fn work(core: Core<R, Self>, service: S, request: Identified<B>) -> Self::Working {
        core.layer(Bare(service)).call(request)
    }
}

/// A task outlives its caller, so everything in it is `'static`.
impl<S, R, B, C> Mode<S, R, B, C> for Detached<Plain>
where
    S: Service<Request<B>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    R: Reject<Response<BufferedBody<C>>, S::Error> + Clone,
    B: Send + 'static,
    C: Body + Unpin + Send + 'static,
    C::Error: Send,
{
    type Working = <Working<S, R, Self> as Service<Identified<B>>>::Future;

    fn work(core: Core<R, Self>, service: S, request: Identified<B>) -> Self::Working {
        core.layer(Bare(service)).call(request)
    }
}
