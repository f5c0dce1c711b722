//! The layer over a scripted service, on a paused clock.

mod bodies;
mod caps;
mod codec;
mod keys;
mod replays;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower::{BoxError, Layer, Service, ServiceExt};

use super::*;
use crate::Respond;
use crate::frame::PolledFrame;

/// A body that yields the given frames, and announces a length only if one is set.
#[derive(Default, Debug)]
pub(super) struct Script {
    frames: VecDeque<Step>,
    says: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Pending,
    Error(&'static str),
}

impl Script {
    pub(super) fn new(frames: impl IntoIterator<Item = Step>) -> Self {
        Self { frames: frames.into_iter().collect(), says: None }
    }

    pub(super) fn says(self, length: u64) -> Self {
        Self { says: Some(length), ..self }
    }
}

pub(super) fn data(text: &str) -> Step {
    Step::Data(Bytes::copy_from_slice(text.as_bytes()))
}

impl From<Bytes> for Script {
    fn from(data: Bytes) -> Self {
        let says = Some(data.len() as u64);
        Self { says, ..Self::new([Step::Data(data)]) }
    }
}

impl From<&str> for Script {
    fn from(text: &str) -> Self {
        Bytes::copy_from_slice(text.as_bytes()).into()
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame<BoxError> {
        Poll::Ready(match self.frames.pop_front() {
            None => None,
            Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Step::Error(text)) => Some(Err(text.into())),
            Some(Step::Pending) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.frames.iter().map(|step| match step {
            Step::Data(data) => data.len() as u64,
            _ => 0,
        });
        // A hyper body with a `Content-Length` does the same.
        self.says.map_or_else(SizeHint::new, |says| SizeHint::with_exact(says.min(left.sum())))
    }
}

type Handler = dyn Fn(u32, &HeaderMap, Bytes) -> Response<Script> + Send + Sync;

/// The service behind the layer. It answers the n-th call, from 1, as configured.
#[derive(Clone)]
pub(super) struct Inner {
    handler: Arc<Handler>,
    calls: Arc<Mutex<u32>>,
    gate: Arc<Semaphore>,
}

impl Inner {
    pub(super) fn new(
        handler: impl Fn(u32, &HeaderMap, Bytes) -> Response<Script> + Send + Sync + 'static,
    ) -> Self {
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Self { handler: Arc::new(handler), calls: Arc::default(), gate }
    }

    /// Answers `status` with the number of the call.
    pub(super) fn counting(status: u16) -> Self {
        Self::new(move |n, _, _| {
            let body = Script::from(format!("call {n}").as_str());
            Response::builder().status(status).body(body).unwrap()
        })
    }

    /// Makes the handlers wait until `open`.
    pub(super) fn held(self) -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), ..self }
    }

    pub(super) fn open(&self) {
        self.gate.add_permits(1000);
    }

    pub(super) fn calls(&self) -> u32 {
        *self.calls.lock().unwrap()
    }
}

impl Service<Request<Script>> for Inner {
    type Response = Response<Script>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Script>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Script>) -> Self::Future {
        let n = {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        let this = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            drop(this.gate.acquire().await);
            Ok((this.handler)(n, &head.headers, body))
        })
    }
}

/// The response that a client receives.
#[derive(Debug, PartialEq)]
pub(super) struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
    pub trailers: Option<HeaderMap>,
    pub error: Option<String>,
}

impl Got {
    pub(super) fn replayed(&self) -> bool {
        self.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
    }

    /// Returns status and body, and whether the response was replayed.
    pub(super) fn brief(&self) -> (u16, &str, bool) {
        (self.status, &self.body, self.replayed())
    }

    /// Asserts that the response is a problem document of this kind.
    pub(super) fn is_problem(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert!(self.body.contains(&format!(r#""kind":"{kind}""#)), "{self:?}");
        assert!(!self.replayed());
    }
}

pub(super) async fn read(response: Response<BufferedBody<Script>>) -> Got {
    let (head, mut body) = response.into_parts();
    let (mut text, mut trailers, mut error) = (String::new(), None, None);
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => text.push_str(std::str::from_utf8(&data).unwrap()),
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(broken) => error = Some(broken.to_string()),
        }
    }
    assert!(body.is_end_stream());
    let http::response::Parts { status, headers, .. } = head;
    Got { status: status.as_u16(), headers, body: text, trailers, error }
}

/// Sends `request` through `layer` in front of `inner`.
pub(super) async fn send<M: Mode<Inner, Respond, Script, Script>>(
    layer: &IdempotencyKeyLayer<Respond, M>,
    inner: &Inner,
    request: Request<Script>,
) -> Got {
    read(layer.layer(inner.clone()).oneshot(request).await.unwrap()).await
}

pub(super) fn post(key: &str, body: &str) -> Request<Script> {
    asking(Method::POST, "/pay", key, body.into())
}

pub(super) fn asking(method: Method, uri: &str, key: &str, body: Script) -> Request<Script> {
    let request = Request::builder().method(method).uri(uri);
    request.header(IDEMPOTENCY_KEY, key).body(body).unwrap()
}

pub(super) fn layer() -> IdempotencyKeyLayer {
    with(IdempotencyKeyLayer::config())
}

pub(super) fn with(config: buttress::idempotency::Config) -> IdempotencyKeyLayer {
    let store = buttress::idempotency::MemoryStore::default();
    IdempotencyKeyLayer::unscoped(config, store).unwrap()
}

/// Polls the future once, with a waker that does nothing.
pub(super) fn is_pending<F: Future>(future: &mut Pin<Box<F>>) -> bool {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
}
