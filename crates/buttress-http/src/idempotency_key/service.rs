use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress::idempotency::{Handle, Identity, Plain};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::Service;

use super::body::BufferedBody;
use super::collect::{Collect, exceeds};
use super::future::{Phase, Reading, ResponseFuture};
use super::identity::{Found, Identified, fingerprint};
use super::layer::{Core, Settings};
use super::mode::Mode;
use super::unusable::UnusableRequest;
use crate::mapped::{MapResponse, MappedFuture};
use crate::respond::Respond;

/// A service that runs a request with an `Idempotency-Key` once. Made by
/// [`IdempotencyKeyLayer`](super::IdempotencyKeyLayer).
pub struct IdempotencyKey<S, R = Respond, M = Plain> {
    pub(super) inner: S,
    pub(super) core: Core<R, M>,
    pub(super) settings: Arc<Settings>,
}

impl<S, R, M> IdempotencyKey<S, R, M> {
    /// Returns the operator's view, as
    /// [`IdempotencyKeyLayer::handle`](super::IdempotencyKeyLayer::handle) does.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.core.handle()
    }
}

impl<S, R, M, B, C> Service<Request<B>> for IdempotencyKey<S, R, M>
where
    S: Service<Request<B>, Response = Response<C>> + Clone,
    R: Clone,
    M: Mode<S, R, B, C>,
    B: Body + From<Bytes> + Unpin,
    C: Body + Unpin,
{
    type Response = Response<BufferedBody<C>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, R, M, B, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ResponseFuture { phase: self.begin(request) }
    }
}

impl<S, R, M> IdempotencyKey<S, R, M> {
    fn begin<B, C>(&mut self, request: Request<B>) -> Phase<S, R, M, B, C>
    where
        S: Service<Request<B>, Response = Response<C>> + Clone,
        R: Clone,
        M: Mode<S, R, B, C>,
        B: Body + From<Bytes> + Unpin,
        C: Body + Unpin,
    {
        if !self.settings.methods.contains(request.method()) {
            return Phase::Passing { future: self.inner.call(request) };
        }
        let (head, body) = request.into_parts();
        let identity = match self.settings.key(&head) {
            Found::Unusable(why) => return self.settings.refuse(why),
            Found::Unprotected => {
                let request = Request::from_parts(head, body);
                return Phase::Passing { future: self.inner.call(request) };
            }
            Found::Key(key) if self.settings.payload => {
                let cap = self.settings.request_cap;
                if exceeds(&body, cap) {
                    return self.settings.refuse(UnusableRequest::TooLarge { cap });
                }
                let (core, service) = (self.core.clone(), self.take_ready());
                let (settings, collect) = (self.settings.clone(), Collect::new(body, cap));
                let reading = Box::new(Reading { head, key, service, core, settings });
                return Phase::Collecting { collect, reading: Some(reading) };
            }
            Found::Key(key) => {
                Ok(Some(Identity { key, fingerprint: Some(fingerprint(&head, None)) }))
            }
            Found::NoKey => Ok(None),
            Found::Invalid(error) => Err(error),
        };
        let request = Request::from_parts(head, body);
        let service = self.take_ready();
        let future = M::work(self.core.clone(), service, Identified { request, identity });
        Phase::Working { future }
    }

    /// Returns the service that was polled ready, and leaves its clone.
    fn take_ready(&mut self) -> S
    where
        S: Clone,
    {
        let fresh = self.inner.clone();
        std::mem::replace(&mut self.inner, fresh)
    }
}

impl Settings {
    pub(super) fn refuse<S, R, M, B, C>(&self, request: UnusableRequest) -> Phase<S, R, M, B, C>
    where
        S: Service<Request<B>, Response = Response<C>>,
        C: Body + Unpin,
        M: Mode<S, R, B, C>,
    {
        let response = match &self.unusable {
            Some(unusable) => unusable(&request),
            None => request.challenging(&self.challenge),
        };
        let response = response.map(BufferedBody::from);
        Phase::Refused { response: Some(response) }
    }
}

impl<S: Clone, R: Clone, M: Clone> Clone for IdempotencyKey<S, R, M> {
    fn clone(&self) -> Self {
        let (core, settings) = (self.core.clone(), self.settings.clone());
        Self { inner: self.inner.clone(), core, settings }
    }
}

impl<S: fmt::Debug, R, M> fmt::Debug for IdempotencyKey<S, R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyKey").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// The inner service in the form that the core calls.
#[derive(Clone, Debug)]
pub struct Bare<S>(pub(super) S);

impl<S, B, C> Service<Identified<B>> for Bare<S>
where
    S: Service<Request<B>, Response = Response<C>>,
    C: Body,
{
    type Response = Response<BufferedBody<C>>;
    type Error = S::Error;
    type Future = BareFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Identified<B>) -> Self::Future {
        MappedFuture::new(self.0.call(request.request), Buffer)
    }
}

/// The response of a [`Bare`].
pub(super) type BareFuture<F> = MappedFuture<F, Buffer>;

/// The change of a response: its body may be a stored one.
#[derive(Clone, Copy, Debug)]
pub struct Buffer;

impl<C: Body> MapResponse<Response<C>> for Buffer {
    type Response = Response<BufferedBody<C>>;

    fn map(&self, response: Response<C>) -> Self::Response {
        response.map(BufferedBody::new)
    }
}
