use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use buttress::bulkhead::{self, BulkheadLayer, KeyedBulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer, KeyedCircuitBreakerLayer};
use buttress::{AnyError, CircuitState, Clock, Outcome};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};

use super::*;
use crate::frame::PolledFrame;
use crate::{ByStatus, HttpLayerExt};

mod calls;
mod circuit;
mod limit;

#[derive(Clone)]
pub(super) enum Step {
    Data(&'static str),
    Trailers(HeaderMap),
    /// Returns `Pending` once.
    Wait,
    Error,
    Panic,
}
pub(super) use Step::{Data, Error, Panic, Trailers, Wait};

/// A body that follows a script.
#[derive(Clone)]
pub(super) struct Script {
    steps: VecDeque<Step>,
    /// Whether the body says that it is at its end as soon as its last frame was read.
    says_end: bool,
    announced: Option<u64>,
}

pub(super) fn script(steps: impl IntoIterator<Item = Step>) -> Script {
    let steps = steps.into_iter().collect();
    Script { steps, says_end: false, announced: None }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> PolledFrame<BoxError> {
        Poll::Ready(match self.steps.pop_front() {
            Some(Data(text)) => {
                self.announced = self.announced.map(|left| left - text.len() as u64);
                Some(Ok(Frame::data(text.into())))
            }
            Some(Trailers(fields)) => Some(Ok(Frame::trailers(fields))),
            Some(Wait) => return Poll::Pending,
            Some(Error) => Some(Err("broken off".into())),
            Some(Panic) => panic!("in the body"),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.says_end && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or(SizeHint::new(), SizeHint::with_exact)
    }
}

type Held<B = Script> = Response<HoldBody<B>>;

/// The response of a call through `layer` over a service that answers with `response`.
pub(super) async fn call<L, S>(layer: &L, response: Response<Script>) -> Held
where
    L: Layer<HoldBodies<Answers>, Service = S>,
    S: Service<Request<()>, Response = Held, Error = BoxError>,
{
    let service = layer.layer(HoldBodyLayer.layer(Answers(response)));
    service.oneshot(Request::default()).await.unwrap()
}

/// A service whose every answer is this response.
#[derive(Clone)]
pub(super) struct Answers(Response<Script>);

impl Service<Request<()>> for Answers {
    type Response = Response<Script>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<Script>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::ready(Ok(self.0.clone()))
    }
}

pub(super) fn with_status(status: u16, body: Script) -> Response<Script> {
    Response::builder().status(status).body(body).unwrap()
}

/// Polls for one frame.
pub(super) fn poll(response: &mut Held) -> PolledFrame<BoxError> {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(response.body_mut()).poll_frame(&mut cx)
}

/// Reads one frame of data.
pub(super) fn data(response: &mut Held) -> Bytes {
    let Poll::Ready(Some(Ok(frame))) = poll(response) else { panic!("no frame") };
    frame.into_data().unwrap()
}

pub(super) fn one() -> BulkheadLayer {
    bulkhead::Config::new().max_concurrent(1).build().unwrap()
}
