use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress::idempotency::{Identity, Key};
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower::Service;

use super::body::BufferedBody;
use super::collect::{Collect, Collected};
use super::identity::{Identified, fingerprint};
use super::layer::{Core, Settings};
use super::mode::Mode;
use super::unusable::UnusableRequest;
use crate::ended::polled_after_completion;

pin_project! {
    /// The response of an [`IdempotencyKey`](super::IdempotencyKey) service. Dropping it cancels the
    /// call, unless it runs [detached](super::IdempotencyKeyLayer::detached).
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, R, M, B, C>
    where
        S: Service<Request<B>, Response = Response<C>>,
        C: Body,
        C: Unpin,
        M: Mode<S, R, B, C>,
    {
        #[pin]
        pub(super) phase: Phase<S, R, M, B, C>,
    }
}

pin_project! {
    #[project = PhaseProj]
    pub(super) enum Phase<S, R, M, B, C>
    where
        S: Service<Request<B>, Response = Response<C>>,
        C: Body,
        C: Unpin,
        M: Mode<S, R, B, C>,
    {
        // A request with another method.
        Passing { #[pin] future: S::Future },
        // An unusable request.
        Refused { response: Option<Response<BufferedBody<C>>> },
        // A request with a key whose body is being read.
        Collecting { collect: Collect<B>, reading: Option<Box<Reading<S, R, M>>> },
        // A request that the core runs.
        Working { #[pin] future: M::Working },
    }
}

/// The parts of a request whose body is being read.
pub(super) struct Reading<S, R, M> {
    pub head: Parts,
    pub key: Key,
    /// This service was polled ready.
    pub service: S,
    pub core: Core<R, M>,
    pub settings: Arc<Settings>,
}

impl<S, R, M, B, C> Future for ResponseFuture<S, R, M, B, C>
where
    S: Service<Request<B>, Response = Response<C>>,
    M: Mode<S, R, B, C>,
    B: Body + From<Bytes> + Unpin,
    C: Body + Unpin,
{
    type Output = Result<Response<BufferedBody<C>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut phase = self.project().phase;
        loop {
            let next = match phase.as_mut().project() {
                PhaseProj::Passing { future } => {
                    return future.poll(cx).map_ok(|response| response.map(BufferedBody::new));
                }
                PhaseProj::Working { future } => return future.poll(cx),
                PhaseProj::Refused { response } => {
                    return match response.take() {
                        Some(response) => Poll::Ready(Ok(response)),
                        None => polled_after_completion("idempotency_key::ResponseFuture"),
                    };
                }
                PhaseProj::Collecting { collect, reading } => {
                    let collected = ready!(Pin::new(collect).poll(cx));
                    match reading.take() {
                        Some(reading) => reading.end(collected),
                        None => polled_after_completion("idempotency_key::ResponseFuture"),
                    }
                }
            };
            phase.set(next);
        }
    }
}

impl<S, R, M> Reading<S, R, M> {
    /// Continues with the body.
    fn end<B, C>(self, collected: Collected<B>) -> Phase<S, R, M, B, C>
    where
        S: Service<Request<B>, Response = Response<C>>,
        M: Mode<S, R, B, C>,
        B: From<Bytes> + Body,
        C: Body + Unpin,
    {
        let Self { head, key, service, core, settings } = self;
        let data = match collected {
            Collected::Whole { data, .. } => data,
            Collected::TooLarge(_) => {
                let cap = settings.request_cap;
                return settings.refuse(UnusableRequest::TooLarge { cap });
            }
            Collected::BrokenOff(_) => return settings.refuse(UnusableRequest::BrokenOff),
        };
        let fingerprint = Some(fingerprint(&head, Some(&data)));
        let identity = Ok(Some(Identity { key, fingerprint }));
        let request = Request::from_parts(head, B::from(data));
        let future = M::work(core, service, Identified { request, identity });
        Phase::Working { future }
    }
}

impl<S, R, M, B, C> fmt::Debug for ResponseFuture<S, R, M, B, C>
where
    S: Service<Request<B>, Response = Response<C>>,
    C: Body + Unpin,
    M: Mode<S, R, B, C>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Passing { .. } => "passing",
            Phase::Refused { .. } => "refused",
            Phase::Collecting { .. } => "collecting",
            Phase::Working { .. } => "working",
        };
        f.debug_struct("ResponseFuture").field("phase", &phase).finish_non_exhaustive()
    }
}
